"""Data sets: values against their sources, files in the true formats, and what can be wrong with them."""

import gzip
import hashlib
import io
import math
import random
import subprocess
import sys
import tarfile
import tracemalloc
import zlib
from dataclasses import replace
from itertools import islice, pairwise

import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mnist1d import data as mnist1d
from sklearn.datasets import load_digits

from pctheory import datasets
from pctheory.datasets import (
    DATASETS,
    FILE_SETS,
    DataFile,
    Dataset,
    batches,
    cifar_records,
    dataset,
    idx_array,
    stacked_batches,
    toy_regression,
)

ARRAYS = ("inputs", "targets", "test_inputs", "test_targets")


@pytest.fixture
def unchecked_shapes():
    """Our own messages, rather than the shape checker's."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


# --- small files in the true formats ---


def idx_bytes(array):
    """The bytes of an IDX file, written independently of the parser."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def data_file(name, content):
    return DataFile(name, len(content), hashlib.sha256(content).hexdigest())


def images_and_labels(rng, count, shape):
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), rng.integers(0, 10, count, dtype=np.uint8)


class SmallFiles:
    """A small data set: pixels and labels, the bytes of its files by name, the table that describes them."""

    def __init__(self, monkeypatch, name):
        self.monkeypatch, self.name, self.original = monkeypatch, name, FILE_SETS[name]
        rng = np.random.default_rng(0)
        shape = (3, 32, 32) if name == "cifar10" else (5, 4)
        counts = [2, 3, 4, 2, 3, 4] if name == "cifar10" else [7, 3]
        parts = [images_and_labels(rng, count, shape) for count in counts]
        names = [file.name for file in self.original.files]
        if name == "cifar10":
            contents = [np.hstack([labels[:, None], x.reshape(len(x), -1)]).tobytes() for x, labels in parts]
        else:
            contents = [idx_bytes(array) for part in parts for array in part]
        self.contents = dict(zip(names, contents, strict=True))
        *train, self.test = parts
        self.train = tuple(np.concatenate(arrays) for arrays in zip(*train, strict=True))
        self.accept(self.contents)

    def accept(self, contents, archive=None):
        """Make these contents the originals."""
        files = {name: data_file(name, content) for name, content in contents.items()}
        source = replace(
            self.original,
            train=tuple(files[file.name] for file in self.original.train),
            test=tuple(files[file.name] for file in self.original.test),
            archive=self.original.archive and data_file(self.original.archive.name, archive or b""),
        )
        self.monkeypatch.setitem(FILE_SETS, self.name, source)

    def archive(self, contents):
        """A gzipped tar archive of the contents, beside a file that nobody asked for."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, content in {"readme.html": b"hello", **contents}.items():
                info = tarfile.TarInfo(f"{self.original.inner}/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return buffer.getvalue()

    def write(self, folder, contents=None, suffix="", pack=bytes):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (contents or self.contents).items():
            (folder / f"{name}{suffix}").write_bytes(pack(content))


@pytest.fixture
def small(monkeypatch):
    return lambda name: SmallFiles(monkeypatch, name)


@pytest.fixture
def mnist(small):
    return small("mnist")


@pytest.fixture
def cifar(small):
    return small("cifar10")


# --- every data set ---


@pytest.fixture
def forgotten():
    """Data sets that were generated are made again, in this test and after it."""

    def forget():
        for made in datasets._GENERATED.values():
            made.cache_clear()

    forget()
    yield forget
    forget()


@pytest.fixture(scope="module")
def shipped():
    return {name: dataset(name) for name in ("digits", "mnist1d")}


@pytest.mark.parametrize("name", DATASETS)
def test_arrays_are_read_only_one_hot_and_reproducible(name, small, tmp_path, forgotten):
    if name in FILE_SETS:
        small(name).write(tmp_path / name)
    data = dataset(name, data_dir=tmp_path)
    forgotten()
    again = dataset(name, data_dir=tmp_path)
    assert again is not data
    assert data.name == name
    assert data.fingerprint == again.fingerprint
    assert data.fingerprint.startswith("sha256:")
    for field in ARRAYS:
        array = getattr(data, field)
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, getattr(again, field))
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1.0
    for targets in (data.targets, data.test_targets):
        assert targets.shape[1] == 10
        assert set(np.unique(targets)) == {0.0, 1.0}
        assert (targets.sum(axis=1) == 1.0).all()


def test_fingerprints_differ_between_data_sets(shipped, small, tmp_path):
    found = [data.fingerprint for data in shipped.values()]
    for name in FILE_SETS:  # mnist and fashion-mnist from the same bytes: told apart by their normalisation
        small(name).write(tmp_path / name)
        found.append(dataset(name, data_dir=tmp_path).fingerprint)
    assert len(set(found)) == len(DATASETS)


def test_digits_are_those_of_scikit_learn(shipped):
    pixels, labels = load_digits(return_X_y=True)
    data = shipped["digits"]
    x = np.concatenate([data.inputs, data.test_inputs])
    training = pixels[:1437] / 16  # the scale must not matter
    np.testing.assert_allclose(x * training.std() + training.mean(), pixels / 16, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(np.concatenate([data.targets, data.test_targets]).argmax(axis=1), labels)
    assert data.inputs.shape == (1437, 64)
    assert data.test_inputs.shape == (360, 64)


def test_what_is_generated_is_kept(shipped):
    assert [name for name in shipped if dataset(name) is not dataset(name)] == []


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("where", ["first pixel", "last pixel", "first label", "last label"])
def test_fingerprint_changes_with_one_number(where, shipped, monkeypatch):
    pixels, labels = load_digits(return_X_y=True)
    array, index = (pixels if "pixel" in where else labels), (0 if "first" in where else -1)
    array.flat[index] = (array.flat[index] + 1) % 10
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda **_: (pixels, labels))
    assert dataset("digits").fingerprint != shipped["digits"].fingerprint


def test_mnist1d_is_that_of_its_package(shipped):
    made, data = mnist1d.make_dataset(mnist1d.get_dataset_args()), shipped["mnist1d"]
    np.testing.assert_array_equal(data.inputs, made["x"])
    np.testing.assert_array_equal(data.test_inputs, made["x_test"])
    np.testing.assert_array_equal(data.targets.argmax(axis=1), made["y"])
    np.testing.assert_array_equal(data.test_targets.argmax(axis=1), made["y_test"])
    assert data.inputs.shape == (4000, 40)
    assert data.test_inputs.shape == (1000, 40)


@pytest.mark.usefixtures("forgotten", "unchecked_shapes")  # the checker draws from Python's generator itself
def test_mnist1d_restores_the_global_generators_and_touches_neither_disk_nor_network(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("opened a connection"))
    random.seed(5)
    np.random.seed(5)
    np.random.standard_normal()  # leaves a second normal number in the state, which must survive too
    expected_python, expected_numpy = random.getstate(), np.random.get_state()
    dataset("mnist1d")
    assert random.getstate() == expected_python
    np.testing.assert_equal(np.random.get_state(), expected_numpy)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("forgotten", "unchecked_shapes")
def test_mnist1d_restores_the_global_generators_after_an_error(monkeypatch):
    def failing():
        random.seed(1)
        np.random.seed(1)
        raise RuntimeError("halfway")

    monkeypatch.setattr(mnist1d, "make_dataset", failing)
    expected_python, expected_numpy = random.getstate(), np.random.get_state()
    with pytest.raises(RuntimeError, match="halfway"):
        dataset("mnist1d")
    assert random.getstate() == expected_python
    np.testing.assert_equal(np.random.get_state(), expected_numpy)


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("digits", "sklearn.datasets", "scikit-learn"), ("mnist1d", "mnist1d.data", "mnist1d")],
)
def test_missing_package(name, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"'{name}' needs {package} .*; pip install 'pctheory\[data\]'$"):
        dataset(name)


def test_import_is_light():
    code = "import sys, pctheory.datasets; print({'jax', 'sklearn', 'mnist1d', 'matplotlib'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


@pytest.mark.parametrize("name", ["MNIST", "", "imagenet"])
def test_unknown_name(name):
    with pytest.raises(ValueError, match="expected one of digits, mnist1d, mnist, fashion-mnist, cifar10; choose"):
        dataset(name)


# --- toy regression ---


def test_toy_regression_is_minus_x_with_standard_deviation_a_tenth():
    x, y = toy_regression(200_000, seed=0)
    np.testing.assert_array_equal(y, -x)
    # four standard errors of the mean, std/sqrt(n), and of the standard deviation, std/sqrt(2n)
    assert abs(x.mean() - 1.0) < 4 * 0.1 / math.sqrt(200_000)
    assert abs(x.std() - 0.1) < 4 * 0.1 / math.sqrt(400_000)
    assert toy_regression(seed=0)[0].shape == (64, 1)


def test_toy_regression_mean_std_and_seed():
    x, _ = toy_regression(10, seed=3, features=2)
    np.testing.assert_array_equal(x, toy_regression(10, seed=3, features=2)[0])
    assert not np.array_equal(x, toy_regression(10, seed=4, features=2)[0])
    shifted, _ = toy_regression(10, seed=3, features=2, mean=-2.0, std=0.3)
    np.testing.assert_allclose((shifted + 2.0) / 0.3, (x - 1.0) / 0.1, rtol=1e-13)  # x - 1 loses a digit
    assert (toy_regression(5, seed=0, std=0.0)[0] == 1.0).all()


def test_independent_target_leaves_the_rest_alone():
    x, y = toy_regression(100_000, seed=0, features=3, independent_target=1)
    np.testing.assert_array_equal(x, toy_regression(100_000, seed=0, features=3)[0])
    np.testing.assert_array_equal(y[:, [0, 2]], -x[:, [0, 2]])
    correlation = np.corrcoef(np.column_stack([x, y[:, 1]]), rowvar=False)[3, :3]
    assert np.abs(correlation).max() < 4 / math.sqrt(100_000)  # four standard errors
    assert abs(y[:, 1].mean() - 1.0) < 4 * 0.1 / math.sqrt(100_000)


def test_toy_regression_is_read_only():
    for array in toy_regression(seed=0, independent_target=0):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size is 0 and features is 1, expected at least 1"),
        ({"features": 0}, "size is 64 and features is 0, expected at least 1"),
        ({"mean": math.nan}, "mean is nan and std is 0.1, expected finite"),
        ({"std": -0.1}, "mean is 1.0 and std is -0.1, expected finite numbers, std >= 0"),
        ({"std": math.inf}, "std is inf, expected finite"),
        ({"independent_target": 1}, "independent_target is 1, expected None or 0 to 0"),
        ({"independent_target": -1}, "independent_target is -1, expected None or 0 to 0"),
        ({"seed": -1}, "seed is -1, expected a non-negative integer"),
    ],
)
def test_toy_regression_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        toy_regression(**{"seed": 0, **arguments})


# --- mini-batches ---


@pytest.fixture
def numbered():
    """Example i has input i and target 2 i, so that rows can be recognised."""
    rows = np.arange(10.0)[:, None]
    return Dataset("numbered", rows, 2 * rows, rows.copy(), 2 * rows, "none")


@pytest.mark.parametrize("size", [1, 3, 5, 10])
def test_batches_are_permutations_without_the_remainder(numbered, size):
    per_pass = 10 // size
    passes = [
        np.concatenate([x for x, _ in taken])
        for taken in np.array_split(list(islice(batches(numbered, size, seed=0), 4 * per_pass)), 4)
    ]
    for rows in passes:
        assert len(set(rows.ravel())) == per_pass * size  # none twice
    assert all(not np.array_equal(one, other) for one, other in pairwise(passes))


def test_batches_keep_inputs_and_targets_together_and_follow_the_seed(numbered):
    def taken(seed):
        return list(islice(batches(numbered, 4, seed=seed), 5))

    for (x, y), (x_again, y_again) in zip(taken(1), taken(1), strict=True):
        assert x.shape == (4, 1)
        np.testing.assert_array_equal(y, 2 * x)
        np.testing.assert_array_equal((x, y), (x_again, y_again))
        with pytest.raises(ValueError, match="read-only"):
            x[0] = 0.0
        with pytest.raises(ValueError, match="read-only"):
            y[0] = 0.0
    assert not np.array_equal(taken(1), taken(2))


def test_batches_of_different_seeds_visit_every_example_equally(numbered):
    firsts = [next(batches(numbered, 1, seed=seed))[0].item() for seed in range(2000)]
    counts = np.bincount(np.array(firsts, int), minlength=10)
    assert np.abs(counts - 200).max() < 5 * math.sqrt(200 * 0.9)  # five standard deviations of a binomial count


@pytest.mark.parametrize(("count", "expected"), [(None, 3), (1, 1), (7, 7)])
def test_stacked_batches_are_the_first_ones(numbered, count, expected):
    xs, ys = stacked_batches(numbered, 3, seed=5, count=count)
    assert xs.shape == ys.shape == (expected, 3, 1)
    for x, y, batch in zip(xs, ys, batches(numbered, 3, seed=5), strict=False):
        np.testing.assert_array_equal((x, y), batch)


def test_stacked_batches_bad_count(numbered):
    with pytest.raises(ValueError, match="count is 0, expected a number of batches, 1 or more"):
        stacked_batches(numbered, 3, seed=5, count=0)


@pytest.mark.parametrize("size", [0, -1, 11])
def test_batches_bad_size(numbered, size):
    with pytest.raises(ValueError, match=f"size is {size}, expected 1 to 10, the examples of 'numbered'"):
        batches(numbered, size, seed=0)  # at the call, not at the first batch


def test_batches_bad_seed(numbered):
    with pytest.raises(ValueError, match="seed is -3, expected a non-negative integer"):
        batches(numbered, 2, seed=-3)


# --- the Dataset class ---


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("field", "change", "error", "message"),
    [
        ("inputs", lambda a: a.astype(np.float32), TypeError, "inputs has dtype float32, expected float64"),
        ("targets", lambda a: a.astype(int), TypeError, "targets has dtype int64, expected float64"),
        ("test_inputs", lambda a: a * math.nan, ValueError, "test_inputs holds numbers that are not finite"),
        ("inputs", lambda a: a + math.inf, ValueError, "inputs holds numbers that are not finite"),
        ("targets", lambda a: a.ravel(), ValueError, r"targets has shape \(10,\), expected \(examples, columns\)"),
        ("inputs", lambda a: a[:0], ValueError, r"inputs has shape \(0, 1\), expected \(examples, columns\)"),
        ("targets", lambda a: a[1:], ValueError, "shapes are .*'targets': .9, 1.*expected equal rows"),
        ("test_targets", lambda a: a[1:], ValueError, "shapes are .*expected equal rows"),
        ("test_inputs", lambda a: np.hstack([a, a]), ValueError, "shapes are .*expected equal rows"),
        ("test_targets", lambda a: np.hstack([a, a]), ValueError, "shapes are .*expected equal rows"),
    ],
)
def test_dataset_bad_input(numbered, field, change, error, message):
    with pytest.raises(error, match=message):
        replace(numbered, **{field: change(getattr(numbered, field))})


# --- files ---


@pytest.mark.parametrize("name", FILE_SETS)
def test_files_give_the_normalised_pixels(name, small, tmp_path):
    files = small(name)
    files.write(tmp_path / name)
    data = dataset(name, data_dir=tmp_path)
    mean, std = {
        "mnist": (0.1307, 0.3081),
        "fashion-mnist": (0.5, 0.5),
        "cifar10": (
            np.repeat([0.4914, 0.4822, 0.4465], 1024),
            np.repeat([0.247, 0.243, 0.261], 1024),
        ),
    }[name]
    for (pixels, labels), inputs, targets in [
        (files.train, data.inputs, data.targets),
        (files.test, data.test_inputs, data.test_targets),
    ]:
        expected = (pixels.reshape(len(pixels), -1) / 255 - mean) / std
        np.testing.assert_allclose(inputs, expected, rtol=0, atol=4e-15)
        np.testing.assert_array_equal(targets.argmax(axis=1), labels)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_gzipped_or_not(mnist, suffix, tmp_path):
    mnist.write(tmp_path / "a" / "mnist")
    mnist.write(tmp_path / "b" / "mnist", suffix=suffix, pack=gzip.compress if suffix else bytes)
    a, b = (dataset("mnist", data_dir=tmp_path / folder) for folder in "ab")
    assert a.fingerprint == b.fingerprint
    for field in ARRAYS:
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


def test_gzipped_and_plain_files_may_be_mixed_and_paths_be_strings(mnist, tmp_path):
    images, *rest = mnist.contents
    mnist.write(tmp_path / "mnist", {images: mnist.contents[images]}, ".gz", gzip.compress)
    mnist.write(tmp_path / "mnist", {name: mnist.contents[name] for name in rest})
    assert dataset("mnist", data_dir=str(tmp_path)).inputs.shape == (7, 20)


def test_cifar_as_archive_extracted_and_flat(cifar, tmp_path):
    cifar.write(tmp_path / "flat" / "cifar10")
    cifar.write(tmp_path / "extracted" / "cifar10" / "cifar-10-batches-bin")
    archive = cifar.archive(cifar.contents)
    cifar.write(tmp_path / "archive" / "cifar10", {"cifar-10-binary.tar.gz": archive})
    cifar.accept(cifar.contents, archive)
    found = [dataset("cifar10", data_dir=tmp_path / folder) for folder in ("flat", "extracted", "archive")]
    assert len({data.fingerprint for data in found}) == 1
    for data in found:
        np.testing.assert_array_equal(data.inputs, found[0].inputs)
        np.testing.assert_array_equal(data.test_targets, found[0].test_targets)
    assert sorted(path.name for path in (tmp_path / "archive").rglob("*")) == ["cifar-10-binary.tar.gz", "cifar10"]


def test_tables_describe_the_original_files():
    sizes = {name: [file.size for file in source.files] for name, source in FILE_SETS.items()}
    idx = [47_040_016, 60_008, 7_840_016, 10_008]  # as listed by their publishers, gunzipped
    assert sizes == {"mnist": idx, "fashion-mnist": idx, "cifar10": [30_730_000] * 6}
    digests = [file.sha256 for source in FILE_SETS.values() for file in (*source.files, source.archive) if file]
    assert len(set(digests)) == 15
    assert all(len(bytes.fromhex(digest)) == 32 and digest == digest.lower() for digest in digests)


# --- files that are missing or wrong ---


def test_data_dir_not_given():
    with pytest.raises(ValueError, match=r"data_dir is not given, .*'mnist' is read from files; give the folder"):
        dataset("mnist")


def test_data_dir_not_a_folder(tmp_path):
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(
            ValueError, match=f"data_dir is '{wrong}', expected an existing folder; .*cifar10/, with"
        ):
            dataset("cifar10", data_dir=wrong)


@pytest.mark.parametrize("index", range(4))
def test_missing_idx_file(mnist, index, tmp_path):
    missing = list(mnist.contents)[index]
    mnist.write(tmp_path / "mnist")
    (tmp_path / "mnist" / missing).unlink()
    expected = f"neither {missing}.gz nor {missing} is in {tmp_path}/mnist; download it from http://yann.lecun.com/"
    with pytest.raises(FileNotFoundError, match=expected):
        dataset("mnist", data_dir=tmp_path)


def test_missing_folder_and_a_folder_in_place_of_a_file(cifar, tmp_path):
    expected = (
        "neither cifar-10-binary.tar.gz nor data_batch_1.bin is in .*; download it from https://www.cs.toronto"
    )
    with pytest.raises(FileNotFoundError, match=expected):
        dataset("cifar10", data_dir=tmp_path)
    (tmp_path / "cifar10" / "data_batch_1.bin").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=expected):
        dataset("cifar10", data_dir=tmp_path)


def corrupt(content, kind):
    match kind:
        case "truncated":
            return content[:-1]
        case "empty":
            return b""
        case "longer":
            return content + b"\0"
        case "altered":
            return content[:-1] + bytes([content[-1] ^ 1])
    raise AssertionError(kind)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "is truncated: it holds 155 bytes, expected 156; download the original again from http"),
        ("empty", "is truncated: it holds 0 bytes, expected 156; download"),
        ("longer", "holds more than the expected 156 bytes; download"),
        ("altered", "has sha256 [0-9a-f]{64}, expected [0-9a-f]{64}; download"),
    ],
)
def test_content_that_is_not_the_original(mnist, kind, message, suffix, tmp_path):
    name = "train-images-idx3-ubyte"
    contents = {**mnist.contents, name: corrupt(mnist.contents[name], kind)}
    mnist.write(tmp_path / "mnist", contents, suffix, gzip.compress if suffix else bytes)
    with pytest.raises(ValueError, match=f"{tmp_path}/mnist/{name}{suffix} {message}"):
        dataset("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-12],
        lambda packed: b"no gzip" + packed,
        lambda packed: packed[:30] + bytes([packed[30] ^ 255]) + packed[31:],
        lambda packed: packed[:10] + b"\xff" + packed[11:],  # a block type that does not exist
        lambda packed: packed + b"trailing",
    ],
    ids=["truncated", "magic", "altered", "block", "trailing"],
)
def test_damaged_gzip_file(mnist, damage, tmp_path):
    mnist.write(tmp_path / "mnist", suffix=".gz", pack=lambda content: damage(gzip.compress(content)))
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz is no intact gzip file \(.*\); download"):
        dataset("mnist", data_dir=tmp_path)


def test_gzip_bomb_is_not_unpacked(mnist, tmp_path):
    bomb = gzip.compress(bytes(100_000_000), compresslevel=1)
    mnist.write(tmp_path / "mnist", suffix=".gz", pack=lambda _: bomb)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="holds more than the expected 156 bytes"):
            dataset("mnist", data_dir=tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


def test_labels_out_of_range(mnist, tmp_path):
    labels = np.array([0, 9, 10, 3, 255, 1, 2], np.uint8)
    mnist.contents["train-labels-idx1-ubyte"] = idx_bytes(labels)
    mnist.accept(mnist.contents)
    mnist.write(tmp_path / "mnist")
    with pytest.raises(ValueError, match="mnist: example 2 has label 10, expected 0 to 9"):
        dataset("mnist", data_dir=tmp_path)


def test_images_and_labels_that_do_not_fit(mnist, tmp_path):
    mnist.contents["t10k-labels-idx1-ubyte"] = idx_bytes(np.zeros(4, np.uint8))
    mnist.accept(mnist.contents)
    mnist.write(tmp_path / "mnist")
    expected = "t10k-images-idx3-ubyte holds 3 images and t10k-labels-idx1-ubyte 4 labels, expected equally many"
    with pytest.raises(ValueError, match=expected):
        dataset("mnist", data_dir=tmp_path)


def test_images_of_different_size_in_train_and_test(mnist, unchecked_shapes, tmp_path):
    mnist.contents["t10k-images-idx3-ubyte"] = idx_bytes(np.zeros((3, 2, 2), np.uint8))
    mnist.accept(mnist.contents)
    mnist.write(tmp_path / "mnist")
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte: 4 pixels an image, but train-.* has \d+; give"):
        dataset("mnist", data_dir=tmp_path)


def test_archive_with_another_checksum_is_not_opened(cifar, monkeypatch, tmp_path):
    cifar.write(tmp_path / "cifar10", {"cifar-10-binary.tar.gz": cifar.archive(cifar.contents)})
    cifar.accept(cifar.contents, bytes(len(cifar.archive(cifar.contents))))
    monkeypatch.setattr(datasets.tarfile, "open", lambda **_: pytest.fail("opened an unverified archive"))
    with pytest.raises(ValueError, match=r"cifar-10-binary.tar.gz (has sha256|is truncated|holds more)"):
        dataset("cifar10", data_dir=tmp_path)


def wrong_archive(cifar, kind):
    contents = dict(cifar.contents)
    match kind:
        case "no tar":
            return gzip.compress(b"not a tar archive")
        case "no gzip":
            return b"not gzip"
        case "cut":
            return cifar.archive(contents)[:-200]
        case "cut between two gzip members":
            return gzip.compress(gzip.decompress(cifar.archive(contents))[:5000]) + b"no gzip"
        case "damaged inside a file":
            packer = zlib.compressobj(wbits=31)
            start = packer.compress(gzip.decompress(cifar.archive(contents))[:40_000])
            return start + packer.flush(zlib.Z_SYNC_FLUSH) + b"\xff"  # a block type that does not exist
        case "missing":
            del contents["test_batch.bin"]
        case "long":
            contents["data_batch_3.bin"] += b"\0"
        case "altered":
            contents["data_batch_3.bin"] = bytes(len(contents["data_batch_3.bin"]))
    return cifar.archive(contents)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no tar", r"cifar-10-binary.tar.gz is no intact tar.gz archive \(.*\); download"),
        ("no gzip", r"cifar-10-binary.tar.gz is no intact tar.gz archive \(.*\); download"),
        ("cut", r"cifar-10-binary.tar.gz is no intact tar.gz archive \(.*\); download"),
        ("cut between two gzip members", r"cifar-10-binary.tar.gz is no intact tar.gz archive \(.*\); download"),
        ("damaged inside a file", r"cifar-10-binary.tar.gz is no intact tar.gz archive \(.*\); download"),
        ("missing", "cifar-10-binary.tar.gz lacks test_batch.bin; download"),
        ("long", "tar.gz/cifar-10-batches-bin/data_batch_3.bin holds more than the expected 12292 bytes; download"),
        ("altered", "tar.gz/cifar-10-batches-bin/data_batch_3.bin has sha256 .*, expected .*; download"),
    ],
)
def test_archive_that_does_not_hold_the_originals(cifar, kind, message, tmp_path):
    archive = wrong_archive(cifar, kind)
    cifar.accept(cifar.contents, archive)
    cifar.write(tmp_path / "cifar10", {"cifar-10-binary.tar.gz": archive})
    with pytest.raises(ValueError, match=message):
        dataset("cifar10", data_dir=tmp_path)


def test_archive_links_are_not_followed(cifar, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in cifar.contents:
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, name  # to itself
            tar.addfile(info)
    cifar.accept(cifar.contents, buffer.getvalue())
    cifar.write(tmp_path / "cifar10", {"cifar-10-binary.tar.gz": buffer.getvalue()})
    with pytest.raises(ValueError, match=r"lacks data_batch_1.bin, data_batch_2.bin"):
        dataset("cifar10", data_dir=tmp_path)


# --- the formats ---

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@given(shapes, st.randoms(use_true_random=False))
def test_idx_array_reads_what_was_written(shape, source):
    array = np.frombuffer(source.randbytes(math.prod(shape)), np.uint8).reshape(shape)
    read = idx_array(idx_bytes(array), axes=array.ndim, name="file")
    np.testing.assert_array_equal(read, array)
    assert not read.flags.writeable


@settings(max_examples=300)
@given(st.binary(max_size=40), st.booleans(), st.integers(0, 4))
def test_idx_array_takes_the_bytes_announced_or_refuses(noise, right_magic, axes):
    content = (bytes([0, 0, 8, axes]) if right_magic else b"") + noise
    fits = len(content) >= 4 + 4 * axes and content[:4] == bytes([0, 0, 8, axes])
    lengths = np.frombuffer(content[4 : 4 + 4 * axes], ">u4") if fits else []
    if fits and math.prod(lengths.tolist()) == len(content) - 4 - 4 * axes > 0:
        assert idx_array(content, axes=axes, name="file").shape == tuple(lengths)
    else:
        with pytest.raises(ValueError, match=r"^file .*; use the original"):
            idx_array(content, axes=axes, name="file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "file starts with '', expected '00000803'; use the original"),
        (bytes([0, 0, 8, 1]) + bytes(20), "file starts with '00000801', expected '00000803'; use"),
        (bytes([0, 0, 13, 3]) + bytes(20), "file starts with '00000d03', expected '00000803'; use"),
        (bytes([0, 0, 8, 3]) + bytes(11), "file holds 15 bytes, expected 16 of header; use"),
        (bytes([0, 0, 8, 3]) + bytes(12), r"file holds 0 entries, expected \[0, 0, 0\], at least one; use"),
        # 2^32 - 1 cubed: neither allocated nor wrapped around
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, r"file holds 0 entries, expected \[4294967295, 4294967295, 42949672"),
        # 65536 * 65536 * 2^32 is 2^64, which wraps to the 0 entries there are
        (bytes([0, 0, 8, 3, 0, 1, 0, 0, 0, 1, 0, 0, 128, 0, 0, 0]), r"holds 0 entries, expected \[65536, 65536"),
        (idx_bytes(np.zeros((2, 2, 2), np.uint8))[:-1], r"file holds 7 entries, expected \[2, 2, 2\]"),
        (idx_bytes(np.zeros((2, 2, 2), np.uint8)) + b"\0", r"file holds 9 entries, expected \[2, 2, 2\]"),
    ],
)
def test_idx_array_bad_input(content, message):
    with pytest.raises(ValueError, match=message):
        idx_array(content, axes=3, name="file")


def test_cifar_records_are_label_red_green_blue():
    record = bytes([7]) + bytes([1]) * 1024 + bytes([2]) * 1024 + bytes([3]) * 1023 + bytes([9])
    pixels, labels = cifar_records(record * 2, name="file")
    assert labels.tolist() == [7, 7]
    assert pixels.shape == (2, 3, 1024)
    assert [set(channel.tolist()) for channel in pixels[1]] == [{1}, {2}, {3, 9}]
    assert pixels[0, 2, -1] == 9


@pytest.mark.parametrize("length", [0, 1, 3072, 3074, 6145])
def test_cifar_records_bad_length(length):
    with pytest.raises(
        ValueError, match=f"file holds {length} bytes, expected a multiple of 3073; use the original"
    ):
        cifar_records(bytes(length), name="file")
