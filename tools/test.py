#!/usr/bin/python3
"""`make test`: runs the suites of tests/rig and ends in one line, `N passed, N failed`."""

import argparse
import os
import re
import sys

import harness


def needed(tests, chosen):
    """The chosen tests and all that they need, in the order of registration."""
    names = {t.name for t in chosen}
    by_name = {t.name: t for t in tests}
    todo = list(chosen)
    while todo:
        for name in todo.pop().needs:
            if name not in by_name:
                sys.exit(f"a test needs {name}, which there is not")
            if name not in names:
                names.add(name)
                todo.append(by_name[name])
    return [t for t in tests if t.name in names]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the part that takes two minutes")
    parser.add_argument("--only", metavar="REGEX", help="tests whose name matches, and their needs")
    parser.add_argument("--list", action="store_true", help="name the tests and stop")
    parser.add_argument("--coverage", action="store_true", help="lines reached, file by file")
    options = parser.parse_args()
    if options.coverage:
        os.environ["COVERAGE_FILES"] = "1"
    harness.load_suites()
    chosen = [t for t in harness.TESTS if t.quick or not options.quick]
    if options.only:
        chosen = [t for t in chosen if re.search(options.only, t.name)]
    chosen = needed(harness.TESTS, chosen)
    if options.list:
        for entry in chosen:
            print(entry.name)
        return 0
    if not chosen:
        sys.exit("no test has such a name")
    os.chdir(harness.machine.ROOT)
    return harness.Runner(chosen).go()


if __name__ == "__main__":
    sys.exit(main())
