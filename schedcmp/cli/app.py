"""The commands and their options. Heavy imports wait inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from schedcmp import __version__
from schedcmp.cli.process import Commands
from schedcmp.errors import RequestError
from schedcmp.files import is_address

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Compare diffusion schedulers: one checkpoint, loaded once; many schedulers; one honest comparison.",
    epilog="Start with: schedcmp init, then schedcmp run sweep.yaml",
)

SweepPath = Annotated[Path, typer.Argument(help="The sweep, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the sweep, as in --set steps=[4,8]."),
]
RunPlace = Annotated[
    str, typer.Argument(metavar="DIR", help="A run's folder, or its address (s3://...).", show_default=False)
]
ModelArgument = Annotated[
    str, typer.Argument(help="builtin:tiny, a diffusers folder, a .safetensors file or a hub id.")
]


def _version(show: bool) -> None:
    if show:
        print(f"schedcmp {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    sweep: SweepPath,
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="The run's folder or address (s3://...); outputs/NAME by default."
        ),
    ] = None,
    set_: Overrides = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, cuda:1, mps or cpu; instead of the sweep's.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, fp32, fp16 or bf16; instead of the sweep's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard what the folder holds already.")] = False,
) -> None:
    """Make every image of a sweep, then its grids and timing tables.

    The same command goes on where it stopped; with an address, on any machine.
    Exits 1 if cells failed, 2 if the request was wrong, 130 if interrupted.
    """
    from schedcmp.cli.planning import show_plan
    from schedcmp.cli.running import run_sweep

    keys = {"device": device, "dtype": dtype}
    overrides = (*(set_ or ()), *(f"{key}={value}" for key, value in keys.items() if value is not None))
    if dry_run:
        show_plan(sweep, overrides, output)
    else:
        raise typer.Exit(run_sweep(sweep, overrides, output, fresh=fresh))


@app.command()
def check(
    sweep: Annotated[
        str, typer.Argument(help="The sweep, a YAML file; or a run's folder or address.", show_default=False)
    ],
    set_: Overrides = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Of a run: save what can be saved; what is damaged is made again.")
    ] = False,
) -> None:
    """Show what a sweep would do: its cells, their cost, and what is wrong. Loads no weights, writes nothing.

    Given a run, look into its database and all its images: is everything what was stored? Exits 1 if not.
    """
    if Path(sweep).is_dir() or is_address(sweep):
        from schedcmp.cli.checking import check_run

        raise typer.Exit(check_run(sweep, repair=repair))
    if repair:
        raise RequestError(f"--repair: is for a run's folder, and {sweep} is none")
    from schedcmp.cli.planning import show_plan

    show_plan(Path(sweep), tuple(set_ or ()), None)


@app.command()
def report(
    run: RunPlace,
) -> None:
    """Make a run's grids and tables again, from its store alone."""
    from schedcmp.cli.reporting import rebuild_reports

    raise typer.Exit(rebuild_reports(run))


@app.command()
def list_compatible(
    model: ModelArgument = "builtin:tiny",
    all_: Annotated[bool, typer.Option("--all", help="With every sigma schedule of every scheduler.")] = False,
    lora: Annotated[list[str] | None, typer.Option(metavar="PATH", help="With this LoRA; may be repeated.")] = None,
    backend: Annotated[Literal["torch", "jax"], typer.Option(help="jax: say what runs how with it.")] = "torch",
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Say which schedulers work with a checkpoint, which do not, and why; beside what diffusers lists."""
    from schedcmp.cli.looking import list_schedulers

    list_schedulers(model, lora or (), every_sigma_schedule=all_, with_jax=backend == "jax", as_json=json)


@app.command()
def show(
    scheduler: Annotated[
        str, typer.Argument(help='A name, as in dpmpp-2m-karras or "DPM++ 2M Karras".', show_default=False)
    ],
    model: ModelArgument = "builtin:tiny",
    steps: Annotated[int, typer.Option(min=1, help="For how many steps.")] = 10,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw its sigmas: .svg, .png or .pdf.")] = None,
) -> None:
    """Show a scheduler as it would run: its resolved options, timesteps, sigmas and cost; or a sigma schedule."""
    from schedcmp.cli.showing import show_scheduler

    show_scheduler(scheduler, model, steps, plot)


@app.command()
def verify(
    schedulers: Annotated[
        list[str] | None, typer.Argument(metavar="[SCHEDULER]...", help="Names; the whole registry by default.")
    ] = None,
    model: Annotated[str, typer.Option(help="The checkpoint whose noise schedule is meant.")] = "builtin:tiny",
    sigmas: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A sigma schedule to run on; may be repeated.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="With every sigma schedule of every scheduler.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every error measured.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Plot them: .svg, .png or .pdf.")] = None,
) -> None:
    """Test schedulers on data whose exact solution is known: does each converge, how fast, and what stops it."""
    from schedcmp.cli.verifying import verify_schedulers

    verify_schedulers(
        schedulers or (), model, sigmas or (), every_sigma_schedule=all_, as_json=json, csv_file=csv, plot_file=plot
    )


@app.command()
def recommend(
    run: RunPlace,
    budget_s: Annotated[float | None, typer.Option(min=0, help="At most so many seconds per image.")] = None,
    budget_nfe: Annotated[int | None, typer.Option(min=1, help="At most so many denoiser evaluations.")] = None,
    max_rmse: Annotated[
        float, typer.Option(min=0, help="Near enough to converged, in standard deviations of the latents.")
    ] = 0.1,
    metric: Annotated[str | None, typer.Option(help="What decides, as in clip or reference_ssim.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    as_: Annotated[
        Literal["diffusers", "a1111", "comfyui", "comfyui-workflow", "invokeai"] | None,
        typer.Option("--as", help="Print what to paste there, of the recommended one or of --cell."),
    ] = None,
    cell: Annotated[str | None, typer.Option(help="A cell's id, or its scheduler, as in euler or euler:20.")] = None,
) -> None:
    """Say which scheduler to take, from a run's results, and what is not told apart. Exits 1 if nothing fits."""
    from schedcmp.cli.recommending import paste_recommended, recommend_scheduler

    if as_ or cell:
        budget = (budget_s, budget_nfe)
        paste_recommended(run, as_ or "diffusers", cell, budget=budget, limit=max_rmse, metric=metric)
        return

    code = recommend_scheduler(
        run, budget_s=budget_s, budget_nfe=budget_nfe, limit=max_rmse, metric=metric, as_json_=json
    )
    raise typer.Exit(code)


@app.command()
def compare(
    old: Annotated[str, typer.Argument(help="The folder or address of the run that is right.", show_default=False)],
    new: Annotated[str, typer.Argument(help="The folder or address of the run to be judged.", show_default=False)],
    max_rmse: Annotated[
        float, typer.Option(min=0, help="How far an image may move: RMSE over its pixels, in levels of 255.")
    ] = 1.0,
    max_slowdown: Annotated[
        float | None, typer.Option(min=0, help="Fail too if a latency grows more than so many times.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Say what changed between two runs of a sweep, for CI: images, latencies, failures. Exits 1 past the limits."""
    from schedcmp.cli.comparing import compare_runs

    raise typer.Exit(compare_runs(old, new, max_rmse=max_rmse, max_slowdown=max_slowdown, as_json_=json))


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("sweep.yaml"),
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="An image that says how it was made (A1111, Forge, ComfyUI, InvokeAI, SwarmUI, schedcmp), or such a"
            " text: the sweep remakes it, and varies sampler and steps.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="With --from: the checkpoint, which an image only names.")] = None,
) -> None:
    """Write a sweep to start from."""
    from schedcmp.cli.beginning import write_remake, write_starter

    if from_ is None:
        write_starter(path)
    else:
        write_remake(path, from_, model)


@app.command()
def schema() -> None:
    """Print the JSON schema of a sweep, for editors that check YAML while you type."""
    from schedcmp.cli.beginning import print_schema

    print_schema()
