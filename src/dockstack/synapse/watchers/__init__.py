"""What follows one discovery source for one service, one file per method."""
