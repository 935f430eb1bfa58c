"""The kinds of check, one file each: returning means healthy."""
