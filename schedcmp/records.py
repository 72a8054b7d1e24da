"""The records that travel between sweep, engine, store and report. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from schedcmp.axes import Setting, adapters, arguments, task_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

IP_ADAPTER = "ip_adapter"  # in `Cell.dress`, where LoRAs have digests
REFERENCE = "reference:"  # begins the labels of reference cells; no entry's name may have a colon
Status = Literal["ok", "flagged", "failed", "unsupported"]
Task = tuple[str | int | float | None, ...]  # plain data, see `axes.task_of`
Worn = tuple[tuple[str, float], ...]  # LoRAs that are on at once, each by its digest, with its weight


@dataclass(frozen=True, slots=True)
class Cell:
    """One image to make. `id` is stable: equal requests have equal ids, in any sweep."""

    id: str
    index: int  # place in the sweep's order
    scheduler: str  # label, unique within the sweep: "dpmpp-2m-karras"
    base: str  # the entry without its sigma schedule: "dpmpp-2m"
    sigma_schedule: str  # "default", "karras", ...
    steps: int
    seed: int
    prompt_name: str  # short, for labels and folders
    prompt: str
    negative_prompt: str
    guidance_scale: float
    width: int | None  # pixels; None: the checkpoint's own size
    height: int | None
    nfe_budget: int | None = None  # where the sweep gives evaluations instead of steps; no part of what is requested
    shift: str = ""  # of flow matching, where the sweep gives one; the scheduler's label names it too
    init_image: str = ""  # what it begins from, as `inputs.pictures.Picture.token`; empty: noise alone
    mask: str = ""  # where that is painted anew
    control_image: str = ""  # what a ControlNet is led by
    prompt_syntax: str = ""  # in which its prompts are read; empty: as they are
    ip_adapter_image: str = ""  # what an IP-Adapter sees
    ip_adapter_scale: float | None = None  # how much that counts; None: there is none
    strength: float | None = None  # how much of the image is noised away; None: its pipeline does not take it
    num_frames: int | None = None  # of a video; None: the pipeline's own number
    call: str = ""  # further arguments of the pipeline's call, a JSON object; empty: none
    model: str = ""  # where the runs of several checkpoints are read as one: its label
    lora: str = (
        ""  # {"name": label, "adapters": [[folder or file, file in the folder, weight, digest], ...]}; empty: none
    )

    @property
    def reference_solver(self) -> str:
        """Whose image this is to be compared with others, by its name; empty for a cell of the sweep."""
        return solver_of(self.scheduler)

    @property
    def task(self) -> Task:
        """All but the scheduler and its steps: deterministic schedulers of one task head for one image."""
        return task_of(self)

    @property
    def setting(self) -> Setting:
        """What images that it may be compared with have in common."""
        return Setting.of(self)

    @property
    def extent(self) -> tuple[int, int, int]:
        """Width, height and frames, as far as they are asked for; 0 is the pipeline's own."""
        return self.width or 0, self.height or 0, self.num_frames or 0

    @property
    def adapters(self) -> list[tuple[str, str, float, str]]:
        """Its LoRAs: a folder, hub id or file; the file's name, if it lies in a folder; weight; digest."""
        return adapters(self.lora)

    @property
    def worn(self) -> Worn:
        """Its LoRAs by content, in the order in which they were asked for."""
        return tuple((digest, weight) for _, _, weight, digest in self.adapters)

    @property
    def dress(self) -> Worn:
        """What its models have beside their weights: LoRAs, and an IP-Adapter by the key of its scale."""
        scale = self.ip_adapter_scale
        return self.worn if scale is None else (*self.worn, (IP_ADAPTER, scale))

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the pipeline's call, beside those that are fields here."""
        return arguments(self.call)

    @property
    def images(self) -> dict[str, str]:
        """What it begins from and is led by: a sweep's key → name and hash of pixels."""
        given = {
            "image": self.init_image,
            "mask": self.mask,
            "control_image": self.control_image,
            "ip_adapter_image": self.ip_adapter_image,
        }
        return {key: token for key, token in given.items() if token}


def solver_of(label: str) -> str:
    """Of a reference's label; empty for that of a cell of the sweep."""
    return label.removeprefix(REFERENCE) if label.startswith(REFERENCE) else ""


Length = tuple[str, int, float | None]  # a scheduler's label, its steps, and the strength that says how many run


def length_of(cell: Cell) -> Length:
    """What decides which noise levels a cell visits."""
    return cell.scheduler, cell.steps, cell.strength


@dataclass(frozen=True, slots=True)
class Timing:
    """Where one solo image's wall time went, in seconds, unrounded."""

    latency_s: float
    text_s: float
    denoiser_s: float
    scheduler_s: float
    vae_s: float
    step_s: tuple[float, ...]  # from one denoiser call to the next, the last one to the VAE
    turn: float | None = None  # when the turn began in which all cells of the task were timed once, s since 1970
    waited_s: float | None = None  # for a processor that others had; None where the system does not tell


@dataclass(frozen=True, slots=True)
class CellResult:
    """What became of a cell. It has no pictures when it failed or cannot be made."""

    cell: Cell
    status: Status
    error: str | None = None  # why it failed, was flagged or is unsupported
    nfe: int | None = None  # denoiser evaluations, counted
    width: int | None = None  # pixels, as made
    height: int | None = None
    pictures: tuple[Image, ...] = ()  # the image, or a video's frames
    image_sha256: str | None = None  # of the pixels, not of the file
    timings: tuple[Timing, ...] = ()  # one per timed repeat; empty if not timed
    peak_memory_bytes: int | None = None
    packed: bool = False  # made in batches with others: equal to a solo image but for rounding
    scheduler_config: dict[str, Any] = field(default_factory=dict)  # as it ran, see `registry.build.Recipe.as_run`
    timesteps: tuple[float, ...] = ()
    latents: npt.NDArray[np.float32] | None = field(default=None, compare=False, repr=False)  # what the VAE was given
    file: bytes | None = field(default=None, compare=False, repr=False)  # where it is made already
    fingerprint: bytes | None = field(default=None, compare=False, repr=False)  # see `image.fingerprint`
    # What its timings depend on, see `prepare.origin.machine_of`; empty: the run's own
    machine: str = field(default="", compare=False)
    frames: int | None = None  # of a video; None: it is an image
    fps: float | None = None  # frames a second, at which a video is meant to be played

    @property
    def image(self) -> Image | None:
        """Of a video, its first frame."""
        return self.pictures[0] if self.pictures else None


@dataclass(frozen=True, slots=True)
class Reference:
    """The image that deterministic schedulers of one task head for, see `truth.reference`."""

    task: Task
    image: str | None  # relative to the run's folder
    uncertainty: float | None  # RMS in standard deviations of the latents: how far two solvers ended apart
    note: str = ""  # why it is withheld: there is none, or it is too uncertain to tell the task's cells apart
    origin: str = ""  # the cells that it was taken from


@dataclass(frozen=True, slots=True)
class StoredCell:
    """A cell as the store has it: `result` without image and latents, and the image's place in the folder."""

    result: CellResult
    image_path: str | None  # relative to the run's folder
    metrics: Mapping[str, float] = field(default_factory=dict)  # by name, see `truth.metrics`

    @property
    def cell(self) -> Cell:
        return self.result.cell

    @property
    def setting(self) -> Setting:
        """What it has in common with images that it may be compared with; its size as made."""
        return self.cell.setting.sized(self.result.width, self.result.height)

    @property
    def counts(self) -> bool:
        """Whether its image, latency and metrics may count in an answer, a rank, a plot or a comparison."""
        return self.result.status == "ok"
