"""Adds up the JUnit files of folders: prints "N passed, M failed[, K skipped]" and exits with 1 when something failed, or nothing ran.

A test that failed and was run again (its second outcome is in a file NAME.xml-again) counts as its second run ended, and is named.
"""
import sys
import xml.etree.ElementTree as xml
from pathlib import Path


def outcomes(path):
    """The outcome of each test of a file, by its name."""
    for case in xml.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            outcome = "failed"
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            outcome = "skipped"
        else:
            outcome = "passed"
        yield f"{case.get('classname')} {case.get('name')}", outcome


count = {"passed": 0, "failed": 0, "skipped": 0}
for first in sorted(path for folder in sys.argv[1:] for path in Path(folder).glob("*.xml")):
    found = dict(outcomes(first))
    again = first.with_name(first.name + "-again")
    if again.exists():
        for name, outcome in outcomes(again):
            if outcome == "passed" and found.get(name) == "failed":
                print(f"passed only when run again: {name}")
            found[name] = outcome
    for name, outcome in found.items():
        count[outcome] += 1
        if outcome == "failed":
            print(f"failed: {name}")
print(f"{count['passed']} passed, {count['failed']} failed" + (f", {count['skipped']} skipped" if count["skipped"] else ""))
sys.exit(count["failed"] > 0 or count["passed"] == 0)
