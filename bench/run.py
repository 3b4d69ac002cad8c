"""Measure joblot beside joblib, multiprocessing.Pool and others, and print the ratios of medians.

    python bench/run.py [--quick] [--rows NAME,...] [--rounds N] [--out FILE]

Each measurement is a process tree of its own; the libraries alternate, so that a busy moment of the machine hits all
of them. --quick takes an eighth of the work, once: for trying the benchmarks, not for figures. The result is written
to bench/results/<date>.json. Only ratios travel from one machine to another.
"""

import argparse
import datetime
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

import registry

HERE = pathlib.Path(__file__).resolve().parent
TIME_LIMIT = 300

for module in ("rows_start", "rows_tasks", "rows_arrays"):  # each registers its rows
    importlib.import_module(module)


# ---- one measurement, in a process of its own ------------------------------------------------------------------------


def child(name, library, scale):
    measured = registry.rows[name].measure(library, scale)
    seconds, base = measured if isinstance(measured, tuple) else (measured, None)
    print(json.dumps({"seconds": seconds, "base": base}))


def measure(row, library, scale):
    """Return {"seconds", "base"}; with "error" where the library could not do it."""
    command = [sys.executable, str(HERE / "run.py"), "--child", row.name, library, str(scale)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"no end in {TIME_LIMIT} s"}
    if done.returncode != 0:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


# ---- the machine -----------------------------------------------------------------------------------------------------


def cpu_model():
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # no such file here: what Python knows is used
    return platform.processor() or platform.machine()


def version_of(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine():
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("joblot", "joblib", "numpy", "ray", "distributed")},
        "commit": commit(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "started": datetime.datetime.now().isoformat(timespec="seconds"),
    }


def commit():
    command = ["git", "-C", HERE, "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


# ---- the table -------------------------------------------------------------------------------------------------------


def judge(row, medians, base):
    """Return a list of {"against", "target", "ratio", "met"}; ratio is None where a side is missing."""
    ours, verdicts = medians.get("joblot"), []
    for against, target in row.targets.items():
        if against == "base":
            ratio = ours / base if ours is not None and base else None
            met = ratio is not None and ratio <= target
        elif against == "below":
            ratio, met = ours, ours is not None and ours <= target
        else:
            theirs = medians.get(against)
            ratio = theirs / ours if ours and theirs else None
            met = ratio is not None and ratio >= target
        verdicts.append({"against": against, "target": target, "ratio": ratio, "met": met})
    return verdicts


def run_row(row, scale, rounds):
    """Measure one row: all libraries once, then all of them again, and so on."""
    libraries = ("joblot", *row.peers)
    got = {name: [] for name in libraries}
    for _ in range(rounds or row.rounds):
        for name in libraries:
            got[name].append(measure(row, name, scale))
    medians, bases, errors = {}, [], {}
    for name, outcomes in got.items():
        good = [o for o in outcomes if "error" not in o]
        if good:
            medians[name] = statistics.median(o["seconds"] for o in good)
        bases += [o["base"] for o in good if o["base"] is not None]
        for outcome in outcomes:
            if "error" in outcome:
                errors[name] = outcome["error"]
    base = statistics.median(bases) if bases else None
    return {
        "name": row.name,
        "what": row.what,
        "unit": row.unit,
        "medians": medians,
        "base": base,
        "all": {name: [o.get("seconds") for o in outcomes] for name, outcomes in got.items()},
        "errors": errors,
        "targets": judge(row, medians, base),
    }


def number(value):
    if value is None:
        return "-"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def in_unit(seconds, unit):
    return None if seconds is None else seconds * {"ms": 1e3, "us": 1e6}[unit]


def describe(verdict, unit):
    """Return (target, measured) as text."""
    if verdict["against"] == "base":
        return f"{verdict['target']:g} x base or less", f"{number(verdict['ratio'])} x"
    if verdict["against"] == "below":
        target, measured = in_unit(verdict["target"], unit), in_unit(verdict["ratio"], unit)
        return f"{target:g} {unit} or less", f"{number(measured)} {unit}"
    wanted = f"{verdict['target']:g} x less than {verdict['against']}"
    if verdict["target"] == 1:
        wanted = f"no more than {verdict['against']}"
    return wanted, f"{number(verdict['ratio'])} x less"


def print_row(result):
    unit = result["unit"]
    figures = [f"{name} {number(in_unit(value, unit))}" for name, value in result["medians"].items()]
    if result["base"] is not None:
        figures.append(f"base {number(in_unit(result['base'], unit))}")
    print(f"{result['what']}\n    {unit}: {', '.join(figures)}")
    for verdict in result["targets"]:
        target, measured = describe(verdict, unit)
        print(f"    target {target:22} measured {measured:12} {'met' if verdict['met'] else 'MISSED'}")
    for name, error in result["errors"].items():
        missing = error.startswith("ModuleNotFoundError")
        print(f"    {name}: {'not installed here, see requirements/peers.txt' if missing else error}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description="joblot beside its peers")
    parser.add_argument("--quick", action="store_true", help="an eighth of the work, one round")
    parser.add_argument("--rows", help="names, separated by commas: " + ", ".join(registry.rows))
    parser.add_argument("--out", type=pathlib.Path, help="where the JSON goes instead of bench/results")
    parser.add_argument("--rounds", type=int, help="how often each library is measured, in place of the row's number")
    options = parser.parse_args()
    names = options.rows.split(",") if options.rows else list(registry.rows)
    unknown = [name for name in names if name not in registry.rows]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(registry.rows)}")
    report = {"machine": machine(), "quick": options.quick, "rows": []}
    print(" | ".join(f"{key} {value}" for key, value in report["machine"].items()) + "\n", flush=True)
    for name in names:
        result = run_row(registry.rows[name], 0.125 if options.quick else 1.0, 1 if options.quick else options.rounds)
        report["rows"].append(result)
        print_row(result)
    report["machine"]["load_at_end"] = round(os.getloadavg()[0], 2)
    started = report["machine"]["started"].replace(":", "")
    out = options.out or HERE / "results" / f"{started}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n")
    targets = [t for r in report["rows"] for t in r["targets"]]
    print(f"\n{sum(t['met'] for t in targets)} of {len(targets)} targets met; load at the end "
          f"{report['machine']['load_at_end']}; written to {out}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    else:
        main()
