"""Print a result of run.py as the Markdown table of the README: python bench/table.py [FILE]."""

import json
import pathlib
import sys

from run import HERE, describe, in_unit, number


def machine_line(machine):
    return (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, {machine['kernel']}, "
        f"Python {machine['python']}, NumPy {machine['numpy']}, joblib {machine['joblib']}; "
        f"load average {machine['load_at_start']} at the start and {machine['load_at_end']} at the end; "
        f"{machine['started'][:10]}, commit {machine['commit']}."
    )


def rows(report):
    for row in report["rows"]:
        unit, medians = row["unit"], row["medians"]
        others = [f"{name} {number(in_unit(value, unit))}" for name, value in medians.items() if name != "joblot"]
        if row["base"] is not None:
            others.append(f"base {number(in_unit(row['base'], unit))}")
        wanted, got = zip(*(describe(target, unit) for target in row["targets"]), strict=True)
        met = ", ".join("met" if target["met"] else "**missed**" for target in row["targets"])
        ours = f"{number(in_unit(medians.get('joblot'), unit))} {unit}"
        yield f"| {row['what']} | {ours} | {', '.join(others)} | {', '.join(wanted)} | {', '.join(got)} | {met} |"


def markdown(report):
    head = ["| what | joblot | others | target | measured | |", "|---|---|---|---|---|---|"]
    return "\n".join([machine_line(report["machine"]), "", *head, *rows(report)])


if __name__ == "__main__":
    file = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "results" / "latest.json"
    print(markdown(json.loads(file.read_text())))
