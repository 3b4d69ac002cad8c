"""Big-endian arrays from real files through worker processes: joblot and joblib on the same data.

A netCDF-3 file (scipy), a FITS image and a FITS table (astropy) are written to a temporary folder and memory-mapped.
Both formats are big-endian by definition. Arrays, columns and views of them go to worker processes as arguments and
come back as results; what a worker saw and what came back is compared with a plain loop in the same process. Then a
worker is killed on purpose while tasks run.

Each library runs in a process of its own, so that a crash of one ends that process and not the demo. The exit code
is 1 when anything that joblot did differs from the plain loop.
"""

import hashlib
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings

import numpy as np

ROWS = 200_000
REPEATS = 3
TIME_LIMIT = 40  # seconds for one library on all cases that are left
KILL_TASKS = 40


# ---- the data -------------------------------------------------------------------------------------------------------


def write_files(folder):
    """Write the files with the libraries that people write such files with."""
    from astropy.io import fits
    from scipy.io import netcdf_file

    random = np.random.default_rng(4)
    with netcdf_file(folder / "ocean.nc", "w") as file:
        file.createDimension("time", ROWS)
        file.createDimension("sensor", 3)
        counts = file.createVariable("counts", "i4", ("time", "sensor"))
        counts[:] = random.integers(-(2**31), 2**31, (ROWS, 3))
        depth = file.createVariable("depth", "f8", ("time", "sensor"))
        depth[:] = random.normal(size=(ROWS, 3))
    image = random.normal(size=(2000, 1000)).astype(">f4")
    table = np.empty(ROWS, [("id", ">i8"), ("flux", ">f8"), ("band", "S4"), ("pos", ">f4", (2,))])
    table["id"] = np.arange(ROWS)
    table["flux"] = random.normal(size=ROWS)
    table["band"] = random.choice([b"u", b"g", b"r", b"iz"], ROWS)
    table["pos"] = random.normal(size=(ROWS, 2))
    hdus = [fits.PrimaryHDU(image), fits.BinTableHDU(table, name="STARS")]
    fits.HDUList(hdus).writeto(folder / "sky.fits")


def open_cases(folder):
    """Map the files; return the arrays by name, and what must stay open."""
    from astropy.io import fits
    from scipy.io import netcdf_file

    warnings.filterwarnings("ignore", message="Cannot close a netcdf_file")
    nc = netcdf_file(folder / "ocean.nc", "r", mmap=True)
    sky = fits.open(folder / "sky.fits", memmap=True)
    counts, depth = nc.variables["counts"].data, nc.variables["depth"].data
    image, table = sky[0].data, sky["STARS"].data
    rows = table.view(np.ndarray)
    place = sky.fileinfo(0)["datLoc"]
    mapped = np.memmap(folder / "sky.fits", ">f4", "r", place, image.shape)
    cases = {
        "netCDF counts": counts,
        "netCDF counts, 100 rows": counts[5000:5100],
        "netCDF depth, one column": depth[:, 1],
        "netCDF depth, rows reversed": depth[::-1],
        "netCDF depth, 100 rows reversed": depth[5100:5000:-1],
        "FITS image": image,
        "FITS image, every 2nd column": image[:, ::2],
        "FITS image, 50 x 50 of it": image[500:550, 500:550],
        "np.memmap of the FITS image": mapped,
        "np.memmap, transposed": mapped.T,
        "np.memmap, rows reversed": mapped[::-1],
        "np.memmap, every 2nd column": mapped[:, ::2],
        "FITS table, column flux": table["flux"],
        "FITS table, id as datetime64": table["id"].view(">M8[s]"),
        "FITS table (FITS_rec)": table,
        "FITS table, rows as ndarray": rows,
        "FITS rows, every 7th, reversed": rows[::-7],
        "FITS rows, 100, every 2nd": rows[1000:1200:2],
    }
    return cases, (nc, sky)


def dtype_name(array):
    """Return `>i4` and the like; for tables 'table' and the byte orders that their fields have."""
    if array.dtype.names is None:
        return array.dtype.str
    orders = {array.dtype[name].base.str[0] for name in array.dtype.names} - {"|"}
    return "table " + "".join(sorted(orders))


def digest(array):
    """Return a digest of the values: the same for every byte order, layout and class."""
    plain = np.ndarray.view(np.asarray(array), np.ndarray)
    parts = [plain] if plain.dtype.names is None else [plain[name] for name in plain.dtype.names]
    text = hashlib.sha256(repr(plain.shape).encode())
    for part in parts:
        text.update(part.astype(part.dtype.newbyteorder("<")).tobytes())
    return text.hexdigest()


# ---- one library on all cases, in a process of its own ---------------------------------------------------------------


def look_at(array, number):
    """A task: say what arrived, and return it."""
    return number, dtype_name(array), digest(array), array


def compare(library, array):
    """Send an array to two workers in four tasks; hold what they saw and what came back against a plain loop."""
    best, expected = None, [look_at(array, i) for i in range(4)]
    for _ in range(REPEATS):
        begun = time.perf_counter()
        got = library.Parallel(n_jobs=2)(library.delayed(look_at)(array, i) for i in range(4))
        taken = time.perf_counter() - begun
        best = taken if best is None else min(best, taken)
    seen, back = {g[1] for g in got}, {dtype_name(g[3]) for g in got}
    return {
        "sent": dtype_name(array),
        "seen": " ".join(sorted(seen)),
        "back": " ".join(sorted(back)),
        "seen_right": all((g[0], g[2]) == (e[0], e[2]) for g, e in zip(got, expected, strict=True)),
        "back_right": all(digest(g[3]) == e[2] for g, e in zip(got, expected, strict=True)),
        "same_dtype": all(g[3].dtype == array.dtype and g[1] == e[1] for g, e in zip(got, expected, strict=True)),
        # A map of a file comes back as the ndarray that it is by then; other classes come back as they were.
        "same_class": isinstance(array, np.memmap) or all(type(g[3]) is type(array) for g in got),
        "ms": best * 1e3,
    }


def sum_rows(rows, number, deadly, note):
    """A task: the sum of each column. One of them kills its own worker, the first time that it is run."""
    if number == deadly and not note.exists():
        note.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return rows.sum(axis=0, dtype="i8").tolist()


def run_with_a_kill(library, folder, counts):
    """Sum slices of rows while one worker is killed; joblot is told to try a task twice, joblib has no such option."""
    note = folder / f"killed-{library.__name__}"
    slices = np.array_split(counts, KILL_TASKS)
    options = {"retries": 1} if library.__name__ == "joblot" else {}
    outcome = {"right": 0, "of": KILL_TASKS, "error": None}
    try:
        got = library.Parallel(n_jobs=2, **options)(
            library.delayed(sum_rows)(rows, i, KILL_TASKS // 2, note) for i, rows in enumerate(slices)
        )
        outcome["right"] = sum(g == rows.sum(axis=0, dtype="i8").tolist() for g, rows in zip(got, slices, strict=True))
    except Exception as error:
        outcome["error"] = type(error).__name__
    outcome["pid"] = int(note.read_text()) if note.exists() else None
    return outcome


def run_cases(name, folder, done):
    """The child process: print one line of JSON for each case."""
    library = importlib.import_module(name)
    cases, keep = open_cases(folder)
    library.Parallel(n_jobs=2)(library.delayed(look_at)(np.zeros(10, ">i4"), i) for i in range(4))  # workers are there
    for case, array in cases.items():
        if case in done:
            continue
        print(json.dumps({"case": case, "begun": True}), flush=True)
        try:
            outcome = compare(library, array)
        except Exception as error:  # whatever the library raises is what the table shows
            outcome = {"sent": dtype_name(array), "error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"case": case, **outcome}), flush=True)
    outcome = run_with_a_kill(library, folder, cases["netCDF counts"])
    print(json.dumps({"case": "kill", **outcome}), flush=True)
    del keep


# ---- the demo -------------------------------------------------------------------------------------------------------


def run_library(name, folder):
    """Run the child, again without the case that it ended at; return the outcomes by case."""
    outcomes = {}
    while True:
        command = [sys.executable, __file__, "--child", name, str(folder), json.dumps(sorted(outcomes))]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        try:
            text, errors = child.communicate(timeout=TIME_LIMIT)
            end = f"exit code {child.returncode}" if child.returncode >= 0 else signal.Signals(-child.returncode).name
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            text, errors = child.communicate()
            end = f"no end in {TIME_LIMIT} s"
        begun = None
        for line in text.decode().splitlines():
            outcome = json.loads(line)
            begun = outcome["case"] if outcome.get("begun") else None
            if begun is None:
                outcomes[outcome["case"]] = outcome
        if "kill" in outcomes:
            return outcomes
        # The process ended in the middle: at a case, or with a worker that was killed.
        outcomes[begun or "kill"] = {"error": end, "right": 0, "of": KILL_TASKS, "pid": None, "stderr": errors.decode()}
        if begun is None:
            return outcomes


def is_right(outcome):
    return "error" not in outcome and all(
        outcome[question] for question in ("seen_right", "back_right", "same_dtype", "same_class")
    )


def verdict(outcome):
    if not (outcome["seen_right"] and outcome["back_right"]):
        return "WRONG"
    return "equal"


def cells(outcome):
    """Four cells of the table for one library."""
    if "error" in outcome:
        return f"{outcome['error'].split(':')[0][:28]:28}"
    ms = outcome["ms"]
    return f"{outcome['seen']:7} {outcome['back']:7} {verdict(outcome):6} {ms:{'5.1f' if ms < 100 else '5.0f'}}"


def explain(case, outcome):
    """Say in one line what a library did to a case, where it is not what a plain loop does."""
    if "error" in outcome:
        return f"{case}: {textwrap.shorten(outcome['error'], 64, placeholder=' ...')}"
    found = []
    if outcome["seen"] != outcome["sent"]:
        found.append(f"{outcome['sent']} was {outcome['seen']} in the worker")
    if outcome["back"] != outcome["sent"]:
        found.append(f"{outcome['sent']} came back as {outcome['back']}")
    if not outcome["seen_right"] and outcome["seen"] == outcome["sent"]:
        found.append("wrong values in the worker")
    if not outcome["back_right"]:
        found.append("wrong values in the result")
    return f"{case}: {', '.join(found) or 'the dtype or the class is another one'}"


def bold(text):
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


def print_table(outcomes):
    version = importlib.import_module("joblib").__version__
    ours, theirs = outcomes["joblot"], outcomes["joblib"]
    print(bold(f"{'':39} {'joblot':28}  joblib {version}"))
    head = f"{'worker':7} {'back':7} {'values':6} {'ms':>5}"
    print(bold(f"{'array':31} {'sent':7} {head}  {head}"))
    for case, outcome in ours.items():
        if case != "kill":
            print(f"{case:31} {outcome.get('sent', '?'):7} {cells(outcome)}  {cells(theirs[case])}".rstrip())
    print()
    print("worker, back: the dtype that a worker saw, and that of the result.  values: those in the worker and")
    print("in the result, against a plain loop, whatever the byte order.  table >: every field is big-endian.")
    print(f"ms: 4 tasks in 2 workers that compute a digest, best of {REPEATS} calls after a first one.")
    for name in ("joblot", "joblib"):
        wrong = [explain(case, o) for case, o in outcomes[name].items() if case != "kill" and not is_right(o)]
        print(bold(f"\n{name}: {len(ours) - 1 - len(wrong)} of {len(ours) - 1} arrays came through unchanged"))
        for line in wrong:
            print(f"  {line}")


def print_kill(outcomes):
    print(bold("\nA worker killed with SIGKILL while it ran one of 40 tasks on slices of netCDF counts:"))
    for name in ("joblot", "joblib"):
        kill = outcomes[name]["kill"]
        pid = f"worker {kill['pid']} killed" if kill["pid"] else "no worker was killed"
        how = " (retries=1)" if name == "joblot" else ""
        end = kill["error"] or "the run went on"
        print(f"  {name}{how}: {pid}; {end}; {kill['right']} of {kill['of']} results right")


def failures(outcomes):
    found = [explain(case, o) for case, o in outcomes.items() if case != "kill" and not is_right(o)]
    kill = outcomes["kill"]
    if kill["error"] is not None or kill["right"] != kill["of"] or kill["pid"] is None:
        found.append(f"the run with a killed worker: {kill['error']}, {kill['right']} of {kill['of']} results right")
    return found


def main():
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="joblot-demo-") as name:
        folder = pathlib.Path(name)
        write_files(folder)
        sizes = ", ".join(f"{f.name} {f.stat().st_size / 1e6:.1f} MB" for f in sorted(folder.iterdir()))
        print(f"Big-endian files, {ROWS:,} rows each, memory-mapped: {sizes}\n", flush=True)
        outcomes = {library: run_library(library, folder) for library in ("joblot", "joblib")}
    print_table(outcomes)
    print_kill(outcomes)
    print(f"\n{time.perf_counter() - begun:.0f} s in all")
    wrong = failures(outcomes["joblot"])
    sys.stdout.flush()
    for line in wrong:
        print(f"*** JOBLOT DIFFERS FROM A PLAIN LOOP: {line}", file=sys.stderr)
    for outcome in outcomes["joblot"].values():
        if outcome.get("stderr"):
            print(outcome["stderr"], file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_cases(sys.argv[2], pathlib.Path(sys.argv[3]), set(json.loads(sys.argv[4])))
    else:
        sys.exit(main())
