#!/usr/bin/env python3
"""Print a software bill of materials of the program: every crate that is linked into it, as CycloneDX 1.6 JSON.

    scripts/sbom.py [TARGET] >streamgauge.cdx.json      TARGET is a Rust target; the default is that of this machine
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = "streamgauge"


def main(target):
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={target}"]
    metadata = json.loads(subprocess.check_output(command, cwd=ROOT))
    packages = {package["id"]: package for package in metadata["packages"]}
    dependencies = {node["id"]: normal_dependencies(node) for node in metadata["resolve"]["nodes"]}
    program = next(key for key, package in packages.items() if package["name"] == PROGRAM)
    reached, waiting = {program}, [program]
    while waiting:
        new = dependencies[waiting.pop()] - reached
        reached |= new
        waiting += new
    checksums = checksums_of_lock_file()
    libraries = sorted(reached - {program}, key=lambda key: (packages[key]["name"], packages[key]["version"]))
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component(packages[program], checksums, "application")},
        "components": [component(packages[key], checksums, "library") for key in libraries],
        "dependencies": [
            {"ref": purl(packages[key]), "dependsOn": sorted(purl(packages[used]) for used in dependencies[key])}
            for key in [program, *libraries]
        ],
    }
    print(json.dumps(bill, indent=2))


def normal_dependencies(node):
    """Return what is linked into a package, without what only its tests or its build need."""
    return {
        dependency["pkg"]
        for dependency in node["deps"]
        if any(kind["kind"] is None for kind in dependency["dep_kinds"])
    }


def checksums_of_lock_file():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return {(package["name"], package["version"]): package.get("checksum") for package in lock["package"]}


def component(package, checksums, kind):
    found = {
        "type": kind,
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
    }
    if package["license"]:
        # Older crates write OR as a slash.
        found["licenses"] = [{"expression": re.sub(" ?/ ?", " OR ", package["license"])}]
    if checksum := checksums.get((package["name"], package["version"])):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return found


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def host():
    version = subprocess.check_output(["rustc", "-vV"], text=True)
    return re.search("^host: (.*)$", version, re.MULTILINE)[1]


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else host())
