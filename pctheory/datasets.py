r"""Data: toy Gaussian regression, handwritten digits, MNIST-1D; MNIST, Fashion-MNIST and CIFAR-10 from files.

Defined here
    Dataset          inputs and one-hot targets, train and test, read-only, with a fingerprint for provenance
    DATASETS         the names that `dataset` knows
    dataset          one of them, normalised
    toy_regression   x ~ N(1, 0.1^2), y = -x
    batches          an endless stream of shuffled mini-batches; stacked_batches: some of them as two arrays
    idx_array, cifar_records   the two binary formats

Nothing is downloaded. A file is compared with its published sha256 before anything interprets it, and no more
of it is decompressed than the original holds.

Reference: the data of F. Innocenti et al., arXiv 2408.11979, normalised as in that paper's code.
"""

import functools
import gzip
import hashlib
import importlib
import io
import itertools
import math
import os
import random
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Float64, Integer, UInt8

from .arguments import is_whole, public, refuse_too_large, shown

Batch = tuple[Float64[np.ndarray, "batch features"], Float64[np.ndarray, "batch outputs"]]
Examples = tuple[UInt8[np.ndarray, "examples channels pixels"], UInt8[np.ndarray, " examples"]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and one-hot targets; rows are examples. The four arrays are made read-only.

    `fingerprint` is a sha256 that changes with the data: of the arrays where they are generated, of the files'
    own sha256 and the normalisation where they are read.

    Raises TypeError for anything but float64, ValueError for empty, non-finite or mismatched arrays.
    """

    name: str
    inputs: Float64[np.ndarray, "train features"]
    targets: Float64[np.ndarray, "train classes"]
    test_inputs: Float64[np.ndarray, "test features"]
    test_targets: Float64[np.ndarray, "test classes"]
    fingerprint: str

    def __post_init__(self) -> None:
        """Validate, and make read-only."""
        for field in ("name", "fingerprint"):
            if not isinstance(getattr(self, field), str):
                raise TypeError(f"{field} is {shown(getattr(self, field))}, expected a text")
        shapes = {}
        for field in ("inputs", "targets", "test_inputs", "test_targets"):
            array = getattr(self, field)
            if not isinstance(array, np.ndarray):
                raise TypeError(f"{field} is {shown(array)}, expected a NumPy array")
            shapes[field] = array.shape
            if array.dtype != np.float64:
                raise TypeError(f"{field} has dtype {array.dtype}, expected float64; use {field}.astype(float)")
            if array.ndim != 2 or 0 in array.shape:
                raise ValueError(f"{field} has shape {array.shape}, expected (examples, columns); reshape it")
            if not np.isfinite(array).all():
                raise ValueError(f"{field} holds numbers that are not finite; remove those examples")
            array.setflags(write=False)
        train, test = len(self.inputs), len(self.test_inputs)
        features, classes = self.inputs.shape[1], self.targets.shape[1]
        if list(shapes.values()) != [(train, features), (train, classes), (test, features), (test, classes)]:
            raise ValueError(f"shapes are {shapes}, expected equal rows in train and test, equal columns across")


@public
def dataset(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """The data set of this `name`, normalised, with one-hot targets.

    digits          the 1797 8 x 8 images that ship with scikit-learn; in their order the first 1437 are for
                    training, the last 360 for testing; minus the mean and divided by the standard deviation of all
                    training pixels together (which leaves no trace of the pixels' range, 0 to 16)
    mnist1d         4000 + 1000 sequences of 40 from `mnist1d.data.make_dataset` with its defaults (seed 42), which
                    normalises train and test together to mean 0 and standard deviation 1
    mnist           60000 + 10000 28 x 28 images; (pixel/255 - 0.1307) / 0.3081
    fashion-mnist   the same sizes; (pixel/255 - 0.5) / 0.5
    cifar10         50000 + 10000 32 x 32 images, columns all red, then green, then blue;
                    (pixel/255 - (0.4914, 0.4822, 0.4465)) / (0.247, 0.243, 0.261) by channel

    The last three are read from the folder `name` inside `data_dir`, which the others ignore: the four original
    IDX files, gzipped or not; cifar-10-binary.tar.gz, or what it holds.

    Raises ValueError for an unknown name, a missing `data_dir` and files that are not the originals (truncated,
    wrong sha256, wrong format), FileNotFoundError for a missing file, ImportError for a missing package.
    Cost: CIFAR-10 takes 1.5 GB, as every entry becomes a double. The first two are made once in a process, which
    keeps them.
    """
    if name in _GENERATED:
        return _GENERATED[name]()
    if name in FILE_SETS:
        return _dataset_from_files(name, FILE_SETS[name], data_dir)
    raise ValueError(f"name is {name!r}, expected one of {', '.join(DATASETS)}; choose one of these")


@public
def toy_regression(
    size: int = 64,
    *,
    seed: int,
    mean: float = 1.0,
    std: float = 0.1,
    features: int = 1,
    independent_target: int | None = None,
) -> Batch:
    r"""(x, y), read-only: `size` examples with x ~ N(mean, std^2), every entry independent, and y = -x.

    The papers' "x ~ N(1, 0.1)" gives the standard deviation, not the variance: their code draws with scale 0.1.
    With `independent_target = i`, column i (from 0) of y is a draw from N(mean, std^2) of its own, which leaves a
    residual that no linear map removes; x does not change. The papers use column 1 of 3.

    Raises ValueError for a size or number of features below 1, a mean or standard deviation that is not finite,
    a negative standard deviation or seed, and a column that does not exist.
    Source: arXiv 2408.11979 and its code (DATA_MEAN, DATA_STD = 1., 0.1).
    """
    if not (is_whole(size) and is_whole(features)) or size < 1 or features < 1:
        got = f"size is {shown(size)} and features is {shown(features)}"
        raise ValueError(f"{got}, expected at least 1 each; ask for more")
    refuse_too_large("toy_regression: size x features", (2, size, features), "ask for fewer")
    std = abs(std) if std == 0 else std  # NumPy takes -0.0 for a negative number
    if not (math.isfinite(mean) and math.isfinite(std) and std >= 0):
        raise ValueError(f"mean is {mean} and std is {std}, expected finite numbers, std >= 0; correct them")
    column = 0 if independent_target is None else independent_target
    if not is_whole(column) or not 0 <= column < features:
        raise ValueError(f"independent_target is {shown(independent_target)}, expected None or 0 to {features - 1}")
    rng = _generator(seed)
    x = rng.normal(mean, std, (size, features))
    y = -x
    if independent_target is not None:
        y[:, independent_target] = rng.normal(mean, std, size)
    return _read_only(x, y)


@public
def batches(dataset: Dataset, size: int, *, seed: int) -> Iterator[Batch]:
    """Read-only mini-batches (x, y) of `size` training examples, without end: take some with `itertools.islice`.

    Each pass over the data is a fresh permutation; the fewer than `size` examples left at its end are dropped, as
    in the papers' code: all batches have one shape, and one pass has `len(dataset.inputs) // size` of them. The
    same seed gives the same batches.

    Raises ValueError, at the call, for a size outside 1..number of examples and for a negative seed.
    """
    if not is_whole(size) or not 1 <= size <= len(dataset.inputs):
        most = f"{len(dataset.inputs)}, the examples of {dataset.name!r}"
        raise ValueError(f"size is {shown(size)}, expected 1 to {most}")
    return _batches(dataset, size, _generator(seed))


@public
def stacked_batches(
    dataset: Dataset, size: int, *, seed: int, count: int | None = None
) -> tuple[Float64[np.ndarray, "batches size features"], Float64[np.ndarray, "batches size outputs"]]:
    """The first `count` of `batches`, stacked as (xs, ys): what training takes. By default one pass over the data.

    Raises as `batches`, and ValueError for a count below 1.
    """
    stream = batches(dataset, size, seed=seed)
    count = len(dataset.inputs) // size if count is None else count
    if not is_whole(count) or count < 1:
        raise ValueError(f"count is {shown(count)}, expected a number of batches, 1 or more")
    row = dataset.inputs.shape[1] + dataset.targets.shape[1]
    refuse_too_large("stacked_batches: count x size", (count, size, row), "take fewer batches")
    xs, ys = zip(*itertools.islice(stream, count), strict=True)
    return np.stack(xs), np.stack(ys)


def _batches(dataset: Dataset, size: int, rng: np.random.Generator) -> Iterator[Batch]:
    while True:
        order = rng.permutation(len(dataset.inputs))
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            yield _read_only(dataset.inputs[rows], dataset.targets[rows])


def _generator(seed: int) -> np.random.Generator:
    if not is_whole(seed) or seed < 0:
        raise ValueError(f"seed is {shown(seed)}, expected a non-negative integer; choose another")
    return np.random.default_rng(seed)


def _read_only(x: np.ndarray, y: np.ndarray) -> Batch:
    x.setflags(write=False)
    y.setflags(write=False)
    return x, y


# --- generated, or shipped with a package ---


@functools.cache
def _digits() -> Dataset:
    sklearn = _optional_module("sklearn.datasets", "digits", "scikit-learn")
    pixels, labels = sklearn.load_digits(return_X_y=True)
    train = 1437
    x = (pixels - pixels[:train].mean()) / pixels[:train].std()
    y = _one_hot(labels, "digits")
    return _generated("digits", (x[:train], y[:train], x[train:], y[train:]))


@functools.cache
def _mnist1d() -> Dataset:
    mnist1d = _optional_module("mnist1d.data", "mnist1d", "mnist1d")
    states = random.getstate(), np.random.get_state()
    try:
        made = mnist1d.make_dataset()  # seeds both global generators
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    y, y_test = _one_hot(made["y"], "mnist1d"), _one_hot(made["y_test"], "mnist1d")
    return _generated("mnist1d", (made["x"], y, made["x_test"], y_test))


def _optional_module(module: str, name: str, package: str) -> ModuleType:
    """Imported on demand, being optional and heavy: scikit-learn loads much of scipy, mnist1d matplotlib."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{name!r} needs {package} ({error}); pip install 'pctheory[data]'") from error


def _generated(name: str, arrays: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> Dataset:
    return Dataset(name, *arrays, fingerprint=_fingerprint(array.tobytes() for array in arrays))


def _fingerprint(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))  # so that parts cannot run into one another
        digest.update(part)
    return f"sha256:{digest.hexdigest()}"


def _one_hot(labels: Integer[np.ndarray, " examples"], name: str) -> Float64[np.ndarray, "examples 10"]:
    wrong = np.flatnonzero((labels < 0) | (labels > 9))
    if wrong.size:
        got = f"example {wrong[0]} has label {labels[wrong[0]]}"
        raise ValueError(f"{name}: {got}, expected 0 to 9; use the original data")
    targets = np.zeros((len(labels), 10))
    targets[np.arange(len(labels)), labels] = 1.0
    return targets


# --- original files ---


@dataclass(frozen=True)
class DataFile:
    """An original file: its name, and size and sha256 of its content (gunzipped, unless it is an archive)."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class FileSet:
    """The original files of a data set, where to download them, how to read and normalise them.

    `examples` turns contents, by file name, into pixels and labels. `mean` and `std` are by channel, of pixel/255.
    `archive` may hold all files, in its folder `inner`.
    """

    homepage: str
    train: tuple[DataFile, ...]
    test: tuple[DataFile, ...]
    examples: Callable[[Mapping[str, bytes]], Examples]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    archive: DataFile | None = None
    inner: str = ""

    @property
    def files(self) -> tuple[DataFile, ...]:
        """All of them, training files first."""
        return (*self.train, *self.test)


def _dataset_from_files(name: str, source: FileSet, data_dir: str | os.PathLike[str] | None) -> Dataset:
    remedy = f"give the folder that holds {name}/, with the files from {source.homepage}"
    if data_dir is None:
        raise ValueError(f"data_dir is not given, expected a folder, as {name!r} is read from files; {remedy}")
    if not Path(data_dir).is_dir():
        raise ValueError(f"data_dir is {os.fspath(data_dir)!r}, expected an existing folder; {remedy}")
    contents = _contents(source, Path(data_dir) / name)
    x, y = _normalised(source, name, {file.name: contents[file.name] for file in source.train})
    x_test, y_test = _normalised(source, name, {file.name: contents[file.name] for file in source.test})
    if x.shape[1] != x_test.shape[1]:
        of_train, of_test = source.train[0].name, source.test[0].name
        raise ValueError(f"{of_test}: {x_test.shape[1]} pixels an image, but {of_train} has {x.shape[1]}; {remedy}")
    identity = [*(file.sha256 for file in source.files), repr((source.mean, source.std))]
    return Dataset(name, x, y, x_test, y_test, _fingerprint(part.encode() for part in identity))


def _normalised(source: FileSet, name: str, contents: Mapping[str, bytes]) -> Batch:
    pixels, labels = source.examples(contents)
    x = pixels / 255.0
    x -= np.reshape(source.mean, (-1, 1))  # in place: CIFAR-10 is large
    x /= np.reshape(source.std, (-1, 1))
    return x.reshape(len(x), -1), _one_hot(labels, name)


def _contents(source: FileSet, folder: Path) -> dict[str, bytes]:
    """The original files by name, each compared with its checksum."""
    if source.archive is not None and (folder / source.archive.name).is_file():
        return _archive_contents(source, source.archive, folder / source.archive.name)
    if (folder / source.inner).is_dir():
        folder /= source.inner
    return {file.name: _file_content(source, file, folder) for file in source.files}


def _file_content(source: FileSet, file: DataFile, folder: Path) -> bytes:
    plain, zipped = folder / file.name, folder / f"{file.name}.gz"
    if plain.is_file():
        with plain.open("rb") as stream:
            return _checked(source, file, plain, stream.read)
    if zipped.is_file():
        try:
            with gzip.open(zipped) as stream:
                return _checked(source, file, zipped, stream.read)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{zipped} is no intact gzip file ({error}); {_again(source)}") from error
    wanted = f"{file.name}.gz" if source.archive is None else source.archive.name
    raise FileNotFoundError(
        f"neither {wanted} nor {file.name} is in {folder}; download it from {source.homepage} and put it there"
    )


def _archive_contents(source: FileSet, archive: DataFile, path: Path) -> dict[str, bytes]:
    """The files inside a gzipped tar archive, in one pass, without writing any to disk."""
    with path.open("rb") as stream:
        packed = _checked(source, archive, path, stream.read)
    wanted = {f"{source.inner}/{file.name}": file for file in source.files}
    contents = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
            for member in tar:
                file = wanted.get(member.name)
                unpacked = tar.extractfile(member) if file and member.isreg() else None  # follows no links
                if file and unpacked:
                    contents[file.name] = _checked(source, file, path / member.name, unpacked.read)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is no intact tar.gz archive ({error}); {_again(source)}") from error
    if missing := [file.name for file in source.files if file.name not in contents]:
        raise ValueError(f"{path} lacks {', '.join(missing)}; {_again(source)}")
    return contents


def _checked(source: FileSet, file: DataFile, path: Path, read: Callable[[int], bytes]) -> bytes:
    """What `read` gives, if it is the content of the original `file`."""
    content = read(file.size + 1)  # one byte too many is enough to notice: no gzip bomb
    if len(content) > file.size:
        raise ValueError(f"{path} holds more than the expected {file.size} bytes; {_again(source)}")
    if len(content) < file.size:
        got = f"{len(content)} bytes, expected {file.size}"
        raise ValueError(f"{path} is truncated: it holds {got}; {_again(source)}")
    if (sha256 := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise ValueError(f"{path} has sha256 {sha256}, expected {file.sha256}; {_again(source)}")
    return content


def _again(source: FileSet) -> str:
    return f"download the original again from {source.homepage}"


# --- binary formats ---


def idx_array(content: bytes, *, axes: int, name: str) -> UInt8[np.ndarray, "..."]:
    """The entries of an IDX file of unsigned bytes with this number of axes; `name` says which file in an error.

    Two zero bytes, the type 8, the number of axes, their lengths as big-endian 32-bit integers, the entries.
    The array is a read-only view of `content`.

    Raises ValueError for another magic number, an empty axis, or entries more or fewer than the header announces.
    """
    magic, start = bytes((0, 0, 8, axes)), 4 + 4 * axes
    if content[:4] != magic:
        raise ValueError(f"{name} starts with {content[:4].hex()!r}, expected {magic.hex()!r}; use the original")
    if len(content) < start:
        raise ValueError(f"{name} holds {len(content)} bytes, expected {start} of header; use the original")
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    expected, got = math.prod(shape), len(content) - start  # Python integers: no overflow
    if got != expected or expected == 0:
        raise ValueError(f"{name} holds {got} entries, expected {shape}, at least one; use the original")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def cifar_records(content: bytes, *, name: str) -> Examples:
    """Pixels (red, green, blue; row by row) and labels of a CIFAR-10 binary batch: read-only views of `content`.

    Records of one label byte and 3 x 1024 pixel bytes. Raises ValueError if no whole number of records fits.
    """
    length = 1 + 3 * 1024
    if not content or len(content) % length:
        raise ValueError(f"{name} holds {len(content)} bytes, expected a multiple of {length}; use the original")
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    return records[:, 1:].reshape(-1, 3, 1024), records[:, 0]


def _idx_examples(contents: Mapping[str, bytes]) -> Examples:
    (image_name, image_bytes), (label_name, label_bytes) = contents.items()
    images = idx_array(image_bytes, axes=3, name=image_name)
    labels = idx_array(label_bytes, axes=1, name=label_name)
    if len(images) != len(labels):
        got = f"{image_name} holds {len(images)} images and {label_name} {len(labels)} labels"
        raise ValueError(f"{got}, expected equally many; use the originals")
    return images.reshape(len(images), 1, -1), labels


def _cifar_examples(contents: Mapping[str, bytes]) -> Examples:
    pixels, labels = zip(*(cifar_records(content, name=name) for name, content in contents.items()), strict=True)
    return np.concatenate(pixels), np.concatenate(labels)


# --- what there is ---


def _idx_files(prefix: str, count: int, images: str, labels: str) -> tuple[DataFile, DataFile]:
    return (
        DataFile(f"{prefix}-images-idx3-ubyte", 16 + 28 * 28 * count, images),
        DataFile(f"{prefix}-labels-idx1-ubyte", 8 + count, labels),
    )


def _cifar_file(batch: str, sha256: str) -> DataFile:
    return DataFile(f"{batch}.bin", 10_000 * (1 + 3 * 1024), sha256)


_GENERATED: dict[str, Callable[[], Dataset]] = {"digits": _digits, "mnist1d": _mnist1d}

# The sha256 are published in
#   MNIST, Fashion-MNIST   github.com/SomeB1oody/dataset-core, crates/dataset-ml/src/dataset/mnist.rs and
#                          fashion_mnist.rs; the same in github.com/EntroMorphic/sstt, Makefile
#   CIFAR-10               the archive: github.com/tensorflow/datasets, url_checksums/cifar10.txt; the files in it:
#                          github.com/ankane/torchvision-ruby, lib/torchvision/datasets/cifar10.rb
FILE_SETS = {
    "mnist": FileSet(
        # The author's page does not always serve the files; TensorFlow Datasets uses this mirror.
        homepage="http://yann.lecun.com/exdb/mnist/ or https://storage.googleapis.com/cvdf-datasets/mnist/",
        train=_idx_files(
            "train",
            60_000,
            images="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            labels="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        test=_idx_files(
            "t10k",
            10_000,
            images="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            labels="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        examples=_idx_examples,
        mean=(0.1307,),
        std=(0.3081,),
    ),
    "fashion-mnist": FileSet(
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        train=_idx_files(
            "train",
            60_000,
            images="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            labels="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        test=_idx_files(
            "t10k",
            10_000,
            images="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            labels="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        examples=_idx_examples,
        mean=(0.5,),
        std=(0.5,),
    ),
    "cifar10": FileSet(
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        train=(
            _cifar_file("data_batch_1", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
            _cifar_file("data_batch_2", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
            _cifar_file("data_batch_3", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
            _cifar_file("data_batch_4", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
            _cifar_file("data_batch_5", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
        ),
        test=(_cifar_file("test_batch", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),),
        examples=_cifar_examples,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.247, 0.243, 0.261),
        archive=DataFile(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
        inner="cifar-10-batches-bin",
    ),
}

DATASETS = (*_GENERATED, *FILE_SETS)
