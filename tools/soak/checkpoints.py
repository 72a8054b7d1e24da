"""A checkpoint that somebody made to do harm: pickles, indexes, modules, configs, links, broken files."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tools.soak.case import Case, Failed
from tools.soak.commands import here
from tools.soak.payloads import Canary, module

_MODELS = ("unet", "vae", "text_encoder")
_VALUES = (None, True, -1, 0, 1, 2**31, 10**9, 10**18, 1e308, float("inf"), float("nan"), "", "x", "../../x", [],
           [1], [[1]], {}, {"a": 1}, [10**7] * 3, "x" * 100_000, ["x"] * 1000, "\x1b]0;pwned\x07",
           "os.system", 0.5)  # fmt: skip
_CLASSES = (["os", "system"], ["builtins", "exec"], ["diffusers.utils", "x"], ["..", "x"], ["evil", "Thing"], None, 5,
            ["transformers", "AutoModel"], ["diffusers", "UNet2DModel"], [None, None], "x", ["diffusers"],
            ["\x1b[31m", "red"], ["model", "Model"])  # fmt: skip
_PIPELINES = ("evil.Thing", "os.system", "", "a b", ["evil"], 5, None, "StableDiffusionXLPipeline", "DiffusionPipeline",
              ["pipeline", "StableDiffusionPipeline"], "FluxPipeline", "\x1b]0;pwned\x07", "x" * 10_000)  # fmt: skip
_AUTO = dict.fromkeys(("AutoModel", "AutoConfig", "AutoTokenizer"), "model.Model")


def _weights(folder: Path, random: Random) -> Path:
    return random.choice(sorted(folder.rglob("*.safetensors")))


def _edit(path: Path, change: Callable[[Any], Any]) -> None:
    if path.is_file():
        path.write_text(json.dumps(change(json.loads(path.read_text()))))


def an_index(random: Random, folder: Path) -> None:
    """An index that names other weights than those that are there."""
    from safetensors.numpy import load_file, save_file

    path = _weights(folder, random)
    found = load_file(path)
    name = random.choice(
        ("w.bin", "other.safetensors", "../../victim/w.safetensors", "/etc/passwd", path.name, ".", "")
    )
    if name == "w.bin":
        pickled(random, folder, path.parent / name)
    elif name == "other.safetensors":
        save_file({key: np.asarray(value * 1.3, value.dtype) for key, value in found.items()}, path.parent / name)
    every: Any = random.choice((dict.fromkeys(found, name), {}, [], None, {"x": name}, {next(iter(found)): name}))
    stem = random.choice(
        (path.name, "model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors")
    )
    (path.parent / f"{stem}.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": every}))


def pickled(random: Random, folder: Path, path: Path | None = None) -> None:
    import torch

    component = folder / random.choice(_MODELS)
    path = path or component / random.choice(("pytorch_model.bin", "diffusion_pytorch_model.bin", "model.ckpt", "w.pt"))
    if random.random() < 0.5:
        for sound in path.parent.glob("*.safetensors"):
            sound.unlink()
    torch.save({"a": Canary(folder.parent / "canary")}, path)


def modules(random: Random, folder: Path) -> None:
    names = ("pipeline.py", "model.py", "modeling.py", "__init__.py", "evil.py", "tokenizer.py", "sub/deep.py")
    for component in (folder, *(folder / name for name in (*_MODELS, "scheduler", "tokenizer"))):
        path = component / random.choice(names)
        path.parent.mkdir(exist_ok=True)
        path.write_text(module(folder.parent / "canary"))
    for config in folder.rglob("*config.json"):
        if random.random() < 0.5:
            _edit(config, lambda told: told | {"auto_map": _AUTO, "trust_remote_code": True})


def index_of_components(random: Random, folder: Path) -> None:
    def change(told: dict[str, Any]) -> dict[str, Any]:
        if random.random() < 0.3:
            return told | {"_class_name": random.choice(_PIPELINES)}
        key = random.choice([*(k for k in told if k[0] != "_"), "more", "safety_checker", "_diffusers_version"])
        return told | {key: random.choice(_CLASSES)}

    _edit(folder / "model_index.json", change)


def configs(random: Random, folder: Path) -> None:
    """Numbers, texts and lists where others belong."""
    path = random.choice(sorted(folder.rglob("*.json")))
    told = json.loads(path.read_text())
    if not isinstance(told, dict) or not told:
        return
    for _ in range(random.choice((1, 1, 2))):
        told[random.choice(sorted(told))] = random.choice(_VALUES)
    path.write_text(json.dumps(told))


def no_config(random: Random, folder: Path) -> None:
    path = random.choice(sorted(folder.rglob("*.json")))
    texts = (
        "[" * 200_000,
        '{"a":' * 100_000,
        "",
        "null",
        "[]",
        "5",
        '"x"',
        "{",
        "\x00",
        "\ufeff{}",
        '{"a": 1, "a": 2}',
    )
    path.write_text(random.choice(texts))


def headers(random: Random, folder: Path) -> None:
    path = _weights(folder, random)
    data = path.read_bytes()
    length = random.choice((2**62, 2**63, 0, 1, len(data), len(data) * 2, 100_000_001))
    path.write_bytes(random.choice((
        struct.pack("<Q", length) + data[8:], data[: random.randrange(len(data))], data + b"more", data[8:], b"",
        struct.pack("<Q", 200_000) + b"[" * 200_000 + data, b"PK\x03\x04" + data, b"\x80\x04" + data,
    )))  # fmt: skip


def tensors(random: Random, folder: Path) -> None:
    """A header that is read, and says something else."""
    path = _weights(folder, random)
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    key = random.choice([name for name in header if name != "__metadata__"])
    change: Any = random.choice((
        {"dtype": "F64"}, {"dtype": "I64"}, {"dtype": "F8_E4M3"}, {"dtype": "X"}, {"shape": [2**40]}, {"shape": []},
        {"shape": [-1]}, {"data_offsets": [0, 2**60]}, {"data_offsets": [8, 0]}, {"data_offsets": []},
        {"shape": "x"}, None,
    ))  # fmt: skip
    header = {n: v for n, v in header.items() if n != key} | ({key: header[key] | change} if change else {})
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def numbers(random: Random, folder: Path) -> None:
    """Weights of infinities, zeros, or other ones: they are loaded, and have another fingerprint."""
    from safetensors.numpy import load_file, save_file

    path, factor = _weights(folder, random), random.choice((0.0, float("nan"), float("inf"), 1e30, 1.3, -1.0))
    with np.errstate(all="ignore"):
        save_file({k: np.asarray(v * factor, v.dtype) for k, v in load_file(path).items()}, path, {"format": "pt"})


def links(random: Random, folder: Path) -> None:
    path = random.choice(sorted(p for p in folder.rglob("*") if p.is_file()))
    path.unlink()
    if random.random() < 0.4:
        os.mkfifo(path)
    else:
        path.symlink_to(random.choice(("/dev/zero", "/etc/passwd", "nothing", path.name, "/proc/self/mem", "..")))


def rot(random: Random, folder: Path) -> None:
    path = random.choice(sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size))
    data = bytearray(path.read_bytes())
    for _ in range(random.choice((1, 5, 100))):
        data[random.randrange(len(data))] = random.randrange(256)
    path.write_bytes(data)


def missing(random: Random, folder: Path) -> None:
    path = random.choice(sorted(folder.rglob("*")))
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


DEEDS: tuple[Callable[[Random, Path], Any], ...] = (
    an_index, an_index, pickled, modules, index_of_components, configs, configs, configs, no_config, headers, tensors,
    numbers, links, rot, missing,
)  # fmt: skip


def attack(case: Case) -> None:
    folder = case.folder / "model"
    shutil.copytree(case.grounds.checkpoint, folder)
    deed = case.random.choice(DEEDS)
    case.say(deed.__name__)
    deed(case.random, folder)
    model = folder
    if deed in (headers, tensors) and case.random.random() < 0.3:
        model = sorted(folder.glob("unet/*.safetensors"))[0]
    sweep = json.loads(case.grounds.sweep("small").read_text()) | {"model": str(model)}
    case.sweep.write_text(json.dumps(sweep | {"schedulers": ["ddim"], "steps": [2], "seeds": 0, "metrics": "off"}))
    looks = [("check", case.sweep), ("list-compatible", model), ("show", "ddim", model)]
    for command in (case.random.choice(looks), ("run", case.sweep, "-o", case.folder / "run")):
        said = here(case, *command)
        if (case.folder / "canary").exists():
            raise Failed("code of the checkpoint was run")
        case.seen[f"{command[0]} {said.code}"] += 1
    _same_key_same_image(case)


def _same_key_same_image(case: Case) -> None:
    """Images of two checkpoints have two keys."""
    if not (case.folder / "run/run.sqlite").exists():
        return
    found = [dict(_images(folder)) for folder in (case.grounds.run("small"), case.folder / "run")]
    for key in found[0].keys() & found[1].keys():
        if found[0][key] != found[1][key]:
            raise Failed(f"silent change: another image under the key {key}")


def _images(run: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(run / "run.sqlite")) as database:
        return database.execute("SELECT key || id, image_sha256 FROM cells WHERE image_path IS NOT NULL").fetchall()
