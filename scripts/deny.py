#!/usr/bin/env python3
"""Check the tree of dependencies against deny.toml: licences, duplicates, banned crates and sources.

    scripts/deny.py

Stands in for cargo-deny where that is not installed. It does not look for security advisories, which need a database.
"""

import collections
import json
import pathlib
import re
import subprocess
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def main():
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    packages = list(used_packages(rules["graph"]["targets"]))
    errors = [
        *licence_errors(packages, set(rules["licenses"]["allow"])),
        *banned_errors(packages, {rule["crate"] for rule in rules["bans"]["deny"]}),
        *duplicate_errors(packages, [rule["crate"] for rule in rules["bans"]["skip"]]),
        *source_errors(packages),
    ]
    if errors:
        raise SystemExit("\n".join(f"deny: {error}" for error in errors))
    print(f"deny: {len(packages)} packages are as deny.toml wants them")


def used_packages(targets):
    """Yield the packages that a build for one of the targets uses."""
    command = ["cargo", "metadata", "--format-version=1", "--locked"]
    command += [f"--filter-platform={target}" for target in targets]
    metadata = json.loads(subprocess.check_output(command, cwd=ROOT))
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    return (package for package in metadata["packages"] if package["id"] in used)


def licence_errors(packages, allowed):
    for package in packages:
        expression = package["license"] or ""
        if not is_allowed(expression, allowed):
            yield f"{name(package)} has the licence {expression!r}; allow it in deny.toml, or do without the crate"


def is_allowed(expression, allowed):
    """Evaluate an SPDX expression: one side of OR (once written as a slash) suffices, both of AND are needed."""
    for parenthesis in re.findall(r"\(([^()]*)\)", expression):
        inner = "MIT" if is_allowed(parenthesis, allowed) else "denied"
        expression = expression.replace(f"({parenthesis})", inner)
    return any(
        all(licence.strip() in allowed for licence in alternative.split(" AND "))
        for alternative in re.split(r" OR |/", expression)
    )


def banned_errors(packages, banned):
    for package in packages:
        if package["name"] in banned:
            yield f"{name(package)} is banned by deny.toml"


def duplicate_errors(packages, skipped):
    versions = collections.defaultdict(list)
    for package in packages:
        is_skipped = any(f"{package['name']}@{package['version']}".startswith(f"{rule}.") for rule in skipped)
        if not is_skipped:
            versions[package["name"]].append(package["version"])
    for crate, found in versions.items():
        if len(found) > 1:
            yield f"{crate} is there more than once: {', '.join(sorted(found))}; name the reason in deny.toml"


def source_errors(packages):
    for package in packages:
        if package["source"] not in (None, CRATES_IO):
            yield f"{name(package)} comes from {package['source']}; take it from crates.io"


def name(package):
    return f"{package['name']} {package['version']}"


if __name__ == "__main__":
    main()
