#!/usr/bin/env python3
"""Compare a haproxy.cfg with a recorded one, by meaning.

Same sections with the same lines, white space folded. What may differ:
- `global` and `defaults` may hold further lines (ours adds its own sockets);
- the order of `server` lines, unless the case fixes it (backend_order asc or desc);
- the numbers after `id`: unique, from 1 to 65535, and a server that stays keeps its number from step to step.
`defaults` must stand before the first proxy, and adds no `mode`, `balance`, `timeout` or `option` of its own.

    compare.py EXPECTED.cfg GOT.cfg [--exact-order]
"""

import sys
from pathlib import Path

HEADS = {
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "userlist",
    "peers",
    "resolvers",
    "mailers",
    "cache",
    "program",
    "http-errors",
    "ring",
}
Sections = dict[str, list[list[str]]]


def parse(text: str) -> Sections:
    out: Sections = {}
    name = None
    for raw in text.splitlines():
        words = raw.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in HEADS and not raw[:1].isspace():
            name = " ".join(words)
            if name in out:
                raise ValueError(f"section twice: {name}")
            out[name] = []
        elif name is None:
            raise ValueError(f"line before the first section: {raw.strip()}")
        else:
            out[name].append(words)
    return out


def split_id(words: list[str]) -> tuple[list[str], int | None]:
    if "id" in words[3:]:
        i = words.index("id", 3)
        if i + 1 >= len(words) or not words[i + 1].isdigit():
            raise ValueError(f"id without a number: {' '.join(words)}")
        return words[:i] + words[i + 2 :], int(words[i + 1])
    return words, None


def ids(text: str) -> dict[str, dict[str, int | None]]:
    """Server ids by section and server name."""
    return {s: {w[1]: split_id(w)[1] for w in lines if w[0] == "server"} for s, lines in parse(text).items()}


def differences(expected: str, got: str, exact_order: bool = False) -> list[str]:
    try:
        return _differences(expected, got, exact_order)
    except (ValueError, IndexError) as error:
        return [f"unreadable: {error}"]


def _differences(expected: str, got: str, exact_order: bool) -> list[str]:
    out: list[str] = []
    if not got.endswith("\n"):
        out.append("no newline at the end of the file: HAProxy refuses it")
    exp, act = parse(expected), parse(got)
    heads = list(act)
    if "defaults" in heads and any(
        h.split()[0] in ("frontend", "backend", "listen") for h in heads[: heads.index("defaults")]
    ):
        out.append("defaults stands behind a proxy")
    out += [f"missing section: {s}" for s in exp.keys() - act.keys()]
    out += [f"unexpected section: {s}" for s in act.keys() - exp.keys()]
    for section in exp.keys() & act.keys():
        want, have = exp[section], act[section]
        if section in ("global", "defaults"):
            it = iter(have)
            out += [f"{section}: missing or out of order: {' '.join(w)}" for w in want if not any(w == h for h in it)]
            if section == "defaults":
                out += [
                    f"defaults: added: {' '.join(h)}"
                    for h in have
                    if h not in want and h[0] in ("mode", "balance", "timeout", "option", "no")
                ]
            continue
        plain_w, plain_h = [w for w in want if w[0] != "server"], [h for h in have if h[0] != "server"]
        if plain_w != plain_h:
            out.append(f"{section}: lines {[' '.join(x) for x in plain_h]}, expected {[' '.join(x) for x in plain_w]}")
        listed = [h[1] for h in have if h[0] == "server"]
        out += [f"{section}: server listed twice: {n}" for n in {n for n in listed if listed.count(n) > 1}]
        srv_w = {w[1]: split_id(w) for w in want if w[0] == "server"}
        srv_h = {h[1]: split_id(h) for h in have if h[0] == "server"}
        if exact_order and list(srv_w) != list(srv_h):
            out.append(f"{section}: server order {list(srv_h)}, expected {list(srv_w)}")
        out += [f"{section}: missing server {n}" for n in srv_w.keys() - srv_h.keys()]
        out += [f"{section}: unexpected server {n}" for n in srv_h.keys() - srv_w.keys()]
        for n in srv_w.keys() & srv_h.keys():
            if srv_w[n][0] != srv_h[n][0]:
                out.append(f"{section}: {' '.join(srv_h[n][0])} -- expected: {' '.join(srv_w[n][0])}")
            if (srv_w[n][1] is None) != (srv_h[n][1] is None):
                out.append(f"{section}: {n}: id {srv_h[n][1]}, expected {srv_w[n][1]}")
        numbers = [i for _, i in srv_h.values() if i is not None]
        if len(numbers) != len(set(numbers)):
            out.append(f"{section}: an id is used twice: {sorted(numbers)}")
        out += [f"{section}: id {n} is not in 1..65535" for n in numbers if not 1 <= n <= 65535]
    return out


if __name__ == "__main__":
    a, b = sys.argv[1:3]
    found = differences(Path(a).read_text(), Path(b).read_text(), "--exact-order" in sys.argv)
    print("\n".join(found) or "same")
    sys.exit(bool(found))
