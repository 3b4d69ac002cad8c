"""Objects as real readers give them: files that the packages ship, or that are written here.

Each function yields (name, object); files stay open while the objects live. `facts` says all there
is to compare about such an object, in plain data; it runs in the worker too.
"""

import glob
import os
import warnings

import numpy as np

from .catalogue import values
from .exact import describe

ROWS = 200_000


def package_files(package, *patterns):
    root = os.path.dirname(package.__file__)
    found = [path for p in patterns for path in glob.glob(os.path.join(root, p))]
    if not found:
        raise FileNotFoundError(f"{root} holds none of {patterns}: has the package moved its data?")
    return sorted(found)


def facts(x):
    """A description of x; for the classes of these packages, of what a user can ask of them."""
    if isinstance(x, dict):
        return {"class": type(x).__name__, "items": {str(k): facts(v) for k, v in x.items()}}
    kind = type(x).__module__.partition(".")[0]
    if kind == "astropy":
        return astropy_facts(x)
    if kind == "obspy":
        return {"data": describe(x.data), "stats": repr(sorted(map(repr, x.stats.items())))}
    if kind == "nibabel":
        return nibabel_facts(x)
    if kind == "pydicom":
        return {"pixels": describe(x.pixel_array), "text": str(x)}
    return describe(x)


def astropy_facts(x):
    if hasattr(x, "colnames"):
        columns = {name: facts(x[name]) for name in x.colnames}
        return {"class": type(x).__name__, "columns": columns, "meta": repr(dict(x.meta))}
    out = {"itself": describe(x, attributes=False)}
    if hasattr(x, "columns"):
        out["formats"] = list(x.columns.formats)
        out["columns"] = {name: loosely(x[name]) for name in x.columns.names}
    for attribute in ("unit", "name", "format", "description"):
        if hasattr(x, attribute):
            out[attribute] = str(getattr(x, attribute))
    return out


def loosely(x):
    """A column lies in memory as its table does, and that pickles itself: no layout to keep."""
    return {**describe(x, attributes=False), "own pickle": True}


def nibabel_facts(x):
    if hasattr(x, "dataobj"):
        return {"data": describe(np.asanyarray(x.dataobj)), "affine": describe(x.affine)}
    if hasattr(x, "structarr"):
        return {"header": describe(x.structarr), "order": x.endianness}
    return describe(np.asanyarray(x))


# astropy


def write_images(folder):
    """Two files: images as they lie, and images that astropy has to scale (never mapped)."""
    from astropy.io import fits

    data = np.arange(700 * 900).reshape(700, 900)
    plain = [fits.PrimaryHDU(data.astype("i2"))]
    plain += [fits.ImageHDU(data.astype(t)) for t in ("f4", "f8", "i4", "u1")]
    scaled = fits.PrimaryHDU(data.astype("i2"))
    scaled.header["BSCALE"], scaled.header["BZERO"] = 0.5, 10.0
    others = [fits.ImageHDU(data.astype("u2")), fits.CompImageHDU(data.astype("i4"))]
    paths = os.path.join(folder, "plain.fits"), os.path.join(folder, "scaled.fits")
    fits.HDUList(plain).writeto(paths[0])
    fits.HDUList([scaled, *others]).writeto(paths[1])
    return paths


def fits_images(folder):
    from astropy.io import fits

    plain, scaled = write_images(folder)
    for path, memmap in ((plain, True), (plain, False), (scaled, False)):
        for mode in ("readonly", "update", "copyonwrite"):
            for number, hdu in enumerate(fits.open(path, memmap=memmap, mode=mode)):
                if hdu.data is None:
                    continue
                name = f"{os.path.basename(path)}[{number}], memmap={memmap}, {mode}"
                yield name, hdu.data
                if mode != "readonly":
                    continue
                yield name + ", transposed", hdu.data.T
                yield name + ", strided", hdu.data[::3, ::2]
                yield name + ", reversed", hdu.data[::-1, 10:300]
                yield name + ", row", hdu.data[5]
    yield "unscaled", fits.open(scaled, memmap=True, do_not_scale_image_data=True)[0].data
    yield "section", fits.open(plain)[1].section[100:200, 50:]


def fits_table(folder, rows):
    from astropy.io import fits

    column = fits.Column
    columns = [
        column("id", "J", array=np.arange(rows)),
        column("flux", "D", array=np.linspace(0, 1, rows), unit="Jy"),
        column("name", "10A", array=np.char.add("star", np.arange(rows).astype("U"))),
        column("rgb", "3E", array=np.arange(3.0 * rows).reshape(rows, 3)),
        column("good", "L", array=np.arange(rows) % 3 == 0),
        column("z", "C", array=np.arange(rows) * 1j),
        column("flags", "11X", array=np.arange(11 * rows).reshape(rows, 11) % 2 == 1),
        column("count", "I", bzero=2**15, array=(np.arange(rows) % 65536).astype("u2")),
        column("temperature", "I", array=np.arange(rows) % 100),
        column("grid", "6J", dim="(3,2)", array=np.arange(6 * rows).reshape(rows, 2, 3)),
    ]
    path = os.path.join(folder, f"table{rows}.fits")
    fits.BinTableHDU.from_columns(columns).writeto(path)
    number = [c.name for c in columns].index("temperature") + 1
    fits.setval(path, f"TSCAL{number}", value=0.1, ext=1)
    fits.setval(path, f"TZERO{number}", value=5.0, ext=1)
    return path


def fits_tables(folder):
    from astropy.io import fits

    for rows in (10, ROWS):
        path = fits_table(folder, rows)
        for memmap in (True, False):
            stream = fits.open(path, memmap=memmap)
            data = stream[1].data
            name = f"{rows} rows, memmap={memmap}"
            yield name, data
            yield name + ", slice", data[3:8]
            yield name + ", reversed", data[::-2]
            yield name + ", record array", np.asarray(data)
            yield name + ", touched", touched(fits.open(path, memmap=memmap)[1].data)
            for column in data.names:
                yield f"{name}, column {column}", data[column]
            yield name + ", columns in a dict", {c: data[c] for c in data.names[:4]}
            yield name + ", record", np.asarray(data)[2]


def touched(data):
    """Asking for a column makes a FITS_rec remember its conversion."""
    for name in data.names:
        data[name]
    return data


def astropy_tables(folder):
    from astropy import units
    from astropy.table import Column, MaskedColumn, QTable, Table

    path = fits_table(folder, 1000)
    for cls in (Table, QTable):
        table = cls.read(path)
        yield cls.__name__, table
        yield cls.__name__ + " sorted", table[::-1]
        for name in table.colnames:
            if not isinstance(table[name], units.Quantity):  # holds a weak reference: no pickling
                yield f"{cls.__name__} column {name}", table[name]
    yield "masked table", Table(Table.read(path)[["id", "flux"]], masked=True)
    for rows in (5, ROWS):
        for dtype in (">f8", "<f8", ">f4", ">i4"):
            data = values(dtype, rows * 2).reshape(rows, 2)
            yield f"Column {dtype} {rows}", Column(data, name="c", unit="m", description="d")
            yield f"MaskedColumn {dtype} {rows}", MaskedColumn(data[:, 0], mask=data[:, 1] > 0)
            if dtype != ">i4":
                yield f"Quantity {dtype} {rows}", units.Quantity(data, "km / s", copy=False)
                yield f"Quantity {dtype} {rows} transposed", units.Quantity(data, "Jy", copy=False).T
        yield f"Quantity of integers {rows}", units.Quantity(values(">i4", rows), "ct", dtype=">i4")
    yield "scalar Quantity", 2.5 * units.m


def shipped_fits(folder):
    from astropy.io import fits

    for path in package_files(fits, "tests/data/*.fits"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # several of these files are bad on purpose
            try:
                stream = fits.open(path, memmap=True)
                for number, hdu in enumerate(stream):
                    if hdu.data is not None and not isinstance(hdu.data, fits.GroupData):
                        yield f"{os.path.basename(path)}[{number}]", hdu.data
            except (OSError, ValueError, TypeError, fits.VerifyError):
                continue  # unreadable, also in a plain call


# fitsio


def fitsio_files(folder):
    import fitsio

    path = fits_table(folder, ROWS)
    stream = fitsio.FITS(path)
    table = stream[1].read()
    yield "table", table
    yield "table, big-endian", table.astype(table.dtype.newbyteorder(">"))
    yield "rows", stream[1][10:2000:3]
    yield "columns", stream[1]["id", "flux"][:]
    for name in table.dtype.names:
        yield f"column {name}", table[name]
    image = os.path.join(folder, "fitsio.fits")
    fitsio.write(image, values(">f4", 900 * 400).reshape(900, 400), clobber=True)
    yield "image", fitsio.read(image)
    yield "image, transposed", fitsio.read(image).T
    yield "image, section", fitsio.FITS(image)[0][10:500, 3:9]


# scipy


def netcdf_files(folder):
    from scipy.io import netcdf_file

    path = os.path.join(folder, "data.nc")
    with netcdf_file(path, "w") as out:
        out.createDimension("time", None)
        out.createDimension("x", 3)
        for number, code in enumerate(("i4", "f8", "f4", "i2", "b", "S1")):
            fixed = out.createVariable(f"fixed_{code}", code, ("x",))
            fixed[:] = values(">" + code, 3) if code != "S1" else np.array([b"a", b"b", b"c"])
            record = out.createVariable(f"record_{code}", code, ("time", "x"))
            table = (np.arange(ROWS * 3).reshape(ROWS, 3) % 100 + number).astype("u1")
            record[:ROWS] = table.view("S1") if code == "S1" else table
    shipped = package_files(__import__("scipy.io").io, "tests/data/*.nc")
    for mmap in (True, False):
        for source in [path, *shipped]:
            stream = netcdf_file(source, mmap=mmap, maskandscale=False)
            OPEN.append(stream)
            for name, variable in stream.variables.items():
                text = f"{os.path.basename(source)} {name}, mmap={mmap}"
                data = variable.data
                yield text, data
                if data.ndim:
                    yield text + ", reversed", data[::-1]
                    yield text + ", transposed", data.T


OPEN = []  # netcdf_file unmaps its arrays when it dies


def idl_files(folder):
    import scipy.io

    for path in package_files(scipy.io, "tests/data/*.sav"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pointers to nothing, on purpose
            content = scipy.io.readsav(path)
        yield os.path.basename(path), dict(content)
        for name, value in content.items():
            yield f"{os.path.basename(path)} {name}", value


# nibabel


def nibabel_files(folder):
    import nibabel

    for order in "<>":
        for dtype in ("i2", "f4", "f8", "u1"):
            header = nibabel.Nifti1Header(endianness=order)
            header.set_data_dtype(dtype)
            data = values("i1", 90 * 80 * 40).reshape(90, 80, 40).astype(dtype)
            path = os.path.join(folder, f"{dtype}{ord(order)}.nii")
            nibabel.Nifti1Image(data, np.eye(4), header).to_filename(path)
            image = nibabel.load(path)
            yield f"{order}{dtype} image", image
            yield f"{order}{dtype} header", image.header
            yield f"{order}{dtype} proxy", image.dataobj
            yield f"{order}{dtype} array", np.asanyarray(image.dataobj)
            yield f"{order}{dtype} unscaled", image.dataobj.get_unscaled()
            yield f"{order}{dtype} slice", image.dataobj[..., 5]
            yield f"{order}{dtype} reversed", np.asanyarray(image.dataobj)[::-1, :, ::2]
    for path in package_files(nibabel, "tests/data/*.nii*", "tests/data/*.mgz", "tests/data/minc1_*.mnc"):
        image = nibabel.load(path)
        yield os.path.basename(path), np.asanyarray(image.dataobj)
    streamlines = package_files(nibabel, "tests/data/*big_endian.trk")
    for path in streamlines:
        yield os.path.basename(path), list(nibabel.streamlines.load(path).streamlines)


# obspy, segyio, pydicom


def obspy_files(folder):
    import obspy
    import obspy.io.mseed
    import obspy.io.segy

    base = os.path.dirname(obspy.io.mseed.__file__)
    paths = sorted(glob.glob(os.path.join(base, "tests/data/encoding/*ndian.mseed")))
    paths += sorted(glob.glob(os.path.join(os.path.dirname(base), "segy/tests/data/*_trace")))
    paths += sorted(glob.glob(os.path.join(os.path.dirname(base), "segy/tests/data/*.s*[uy]")))
    if not paths:
        raise FileNotFoundError(f"{base} ships no test data any more")
    for path in (p for p in paths if not p.endswith(".npy")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stream = obspy.read(path)
        for number, trace in enumerate(stream):
            yield f"{os.path.basename(path)}[{number}]", trace
            yield f"{os.path.basename(path)}[{number}] data", trace.data
            yield f"{os.path.basename(path)}[{number}] reversed", trace.data[::-1]


def segy_files(folder):
    import segyio

    path = os.path.join(folder, "lines.sgy")
    cube = np.arange(30 * 40 * 500, dtype="f4").reshape(30, 40, 500)
    segyio.tools.from_array(path, cube, format=5)
    with segyio.open(path) as stream:
        yield "traces", stream.trace.raw[:]
        yield "traces, stepped", stream.trace.raw[::7]
        yield "inline", stream.iline[stream.ilines[3]]
        yield "depth slice", stream.depth_slice[4]
        yield "cube", segyio.tools.cube(stream)
        yield "attributes", stream.attributes(segyio.TraceField.INLINE_3D)[:]
    layout = np.dtype([("header", "V240"), ("samples", ">f4", (500,))])
    table = np.memmap(path, layout, "r", 3600)
    yield "mapped traces", table
    yield "mapped samples", table["samples"]
    yield "mapped samples, one depth", table["samples"][:, 9]
    yield "mapped samples, reversed", table["samples"].reshape(30, 40, 500)[::-1].T


def pydicom_files(folder):
    import pydicom

    names = "*big*.dcm *expb*.dcm ExplVR_BigEnd.dcm CT_small.dcm MR_small.dcm SC_rgb_small_odd.dcm"
    for path in package_files(pydicom, *("data/test_files/" + n for n in names.split())):
        data = pydicom.dcmread(path)
        name = os.path.basename(path)
        if "PixelData" not in data:
            continue
        order = "<" if data.original_encoding[1] else ">"
        yield name, data
        yield name + " pixels", data.pixel_array
        yield name + " pixels, reversed", data.pixel_array[::-1]
        if data.BitsAllocated >= 8:
            yield name + " raw", np.frombuffer(data.PixelData, f"{order}u{data.BitsAllocated // 8}")


READERS = {
    "astropy images": ("astropy", fits_images),
    "astropy binary tables": ("astropy", fits_tables),
    "astropy tables": ("astropy", astropy_tables),
    "astropy's own files": ("astropy", shipped_fits),
    "fitsio": ("fitsio", fitsio_files),
    "scipy netCDF": ("scipy", netcdf_files),
    "scipy IDL": ("scipy", idl_files),
    "nibabel": ("nibabel", nibabel_files),
    "obspy": ("obspy", obspy_files),
    "segyio": ("segyio", segy_files),
    "pydicom": ("pydicom", pydicom_files),
}
