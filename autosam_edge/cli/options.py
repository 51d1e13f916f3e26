"""Options that several commands share, each declared once, and the one parser of values with commas."""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, get_args

import typer

from autosam_edge.bundle import STUDENT_FILE, Tier
from autosam_edge.error_codes import OUTPUT_OCCUPIED, OUTPUT_UNNAMED
from autosam_edge.output_formats import DEFAULT_FORMATS, FORMATS
from autosam_edge.write_results import check_writable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from autosam_edge.output_formats import Format

T = TypeVar("T")

EngineName = Literal["onnx", "onnx-2d", "openvino", "executorch", "coreml", "coreml-2d", "coreml-ios18"]
ENGINE_NAMES = ", ".join(get_args(EngineName))

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")]
Scan = Annotated[  # a text, as an empty one would become the path of the working directory
    str,
    typer.Argument(
        metavar="INPUT", help="DICOM folder, file or zip; NIfTI, NRRD or MetaImage file.", show_default=False
    ),
]


def folder(text: str) -> Path:
    """The path of an output folder; an empty text, as of a variable that is not set, is none."""
    if not text:
        raise OUTPUT_UNNAMED("the output folder is an empty text, expected a path.")
    return Path(text)


def bundle_path(text: str) -> Path:
    """The path of a bundle; an empty text is none."""
    if not text:
        raise typer.BadParameter("expected a path, found an empty text")
    return Path(text)


def file_to_write(text: str) -> Path:
    """The path of a file for a result; that it can be written is checked here, before hours of work."""
    path = Path(text)
    if path.is_dir():
        raise OUTPUT_OCCUPIED(
            f"{path.name or '.'} is a folder, expected a file.", remedy="Give the name of a file."
        )
    check_writable(path.parent)
    return path


def weights_in(place: Path | None) -> Path | None:
    """The weights in the folder of a run or bundle; a file is taken as it is."""
    if place is None or not place.is_dir():
        return place
    if not (place / STUDENT_FILE).is_file():
        name = place.resolve().name
        raise typer.BadParameter(f"the folder {name} holds no {STUDENT_FILE}, expected that file")
    return place / STUDENT_FILE


def seconds(text: str) -> float:
    """A time above 0 that is not infinite."""
    return _above_0(text, "seconds above 0, such as 8")


def megabytes(text: str) -> float:
    """A size above 0 that is not infinite."""
    return _above_0(text, "MB above 0, such as 4000")


def _above_0(text: str, expected: str) -> float:
    try:
        return positive_number(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r}, expected {expected}") from None


Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="PATH", parser=folder, help="Folder for the results; created if it is missing."
    ),
]
FileOut = partial(typer.Option, "--out", "-o", metavar="PATH", parser=file_to_write)
BundleArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="BUNDLE", parser=bundle_path, help="Model bundle (*.edge). Default: that of the package."
    ),
]
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Model bundle (*.edge). Default: that of the package.")
]
TierOption = Annotated[
    Tier | None,
    typer.Option(
        "--tier",
        help="Model of the package: fast, or standard, which is more accurate and takes longer. Default: "
        "fast. Not with another bundle.",
    ),
]
TimeBudget = Annotated[
    float | None,
    typer.Option(
        "--time-budget",
        metavar="SECONDS",
        parser=seconds,
        help="Seconds for the labels, without reading and writing. Takes the tier standard; where it would "
        "need longer, the labels are those of fast, with a warning.",
    ),
]
Series = Annotated[
    str | None,
    typer.Option(
        "--series",
        help="Series to read if the input holds several: its number in the list of the error message. "
        "'all' joins series of one image each.",
    ),
]
Engine = Annotated[
    EngineName | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help=f"Inference engine: {ENGINE_NAMES}. Default: the best one; `info` shows the reason.",
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Number of threads of the engine. Default: all cores.")
]
_DECISION = partial(typer.Option, rich_help_panel="Decisions of a person about a doubtful scan")
Precision = Annotated[
    str | None,
    typer.Option("--precision", help="Number format of the model, such as fp32 or int8. Default: the best."),
]
MaxMemory = Annotated[
    float | None,
    typer.Option(
        "--max-memory",
        metavar="MB",
        parser=megabytes,
        help="Memory limit in MB; a scan that needs more is refused before the start.",
    ),
]
RequireSignature = Annotated[
    Path | None,
    typer.Option(
        "--require-signature",
        metavar="PUBLIC.pem",
        help="Use the bundle only if it is signed with the private half of this Ed25519 key; needs `[sign]`.",
    ),
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar="NAME,...",
        help=f"Files to write: some of {', '.join(FORMATS)}. Default: {', '.join(DEFAULT_FORMATS)}, "
        "as far as the input allows.",
    ),
]
Pseudonymize = Annotated[
    bool,
    typer.Option(
        "--pseudonymize",
        help="Write a pseudonym in place of the patient's name and ID into the DICOM results, and no "
        "other patient data or dates. One study always has one pseudonym. UIDs stay, so that a viewer "
        "finds the scan: who has the scan can still tell whose it is. Other results never name the "
        "patient.",
    ),
]
ShowPaths = Annotated[
    bool,
    typer.Option(
        "--show-paths",
        help="After an error, print the path of each file that it names by number; it may name the patient.",
    ),
]
AllowGap = Annotated[
    bool, _DECISION("--allow-gap", help="Fill missing DICOM slices by interpolation, with a warning.")
]
AssumeHu = Annotated[
    bool,
    _DECISION(
        "--assume-hu",
        help="Take values without a rescale as HU, after a check of their range, with a warning.",
    ),
]
IgnoreFrameOfReference = Annotated[
    bool,
    _DECISION(
        "--ignore-frame-of-reference",
        help="Read slices that name several frames of reference as one volume, with a warning.",
    ),
]
AcceptImplausible = Annotated[
    bool,
    _DECISION(
        "--accept-implausible", help="Write labels that do not look like those of an abdomen, with a warning."
    ),
]
Data = Annotated[
    Path, typer.Option("--data", help="Folder that `data prepare` wrote.", exists=True, file_okay=False)
]
Sam = Annotated[
    Path | None,
    typer.Option(
        "--sam",
        help="Checkpoint of SAM, such as sam_vit_b_01ec64.pth.",
        exists=True,
        dir_okay=False,
        show_default=False,
    ),
]


def split_commas(
    text: str, parse: Callable[[str], T], *, option: str, expected: str, count: int | None = None
) -> tuple[T, ...]:
    """The values of an option such as ``3,3,3``.

    Args:
        parse: Reader of one part; it raises ValueError for a part that is wrong.
        expected: Description of a right value, for the error message.
        count: Number of parts; None allows any.
    """
    parts, wrong = [part.strip() for part in text.split(",")], text
    try:
        if count in (None, len(parts)):
            return tuple(parse(wrong := part) for part in parts)
    except ValueError:
        pass
    found = repr(text) if wrong == text else f"{wrong!r} in {text!r}"
    raise typer.BadParameter(f"{found} is wrong; expected {expected}", param_hint=option)


def chosen_formats(texts: list[str] | None) -> tuple[Format, ...] | None:
    """The formats of ``--format``, which may be given several times; None without it."""
    if not texts:
        return None
    expected = f"some of {', '.join(FORMATS)}"
    return split_commas(",".join(texts), one_of(FORMATS), option="--format", expected=expected)


def one_of(choices: Sequence[T]) -> Callable[[object], T]:
    """Reader of one of the choices, for :func:`split_commas`."""
    return lambda text: choices[choices.index(text)]


def positive_number(text: str) -> float:
    """Reader of a number above 0 that is not infinite, for :func:`split_commas`."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def require(option: str, value: T | None, reason: str) -> T:
    """The value of an option that this call needs.

    Args:
        reason: Clause that says when the option is needed.
    """
    if value is None:
        raise typer.BadParameter(reason, param_hint=option)
    return value


def refuse_given(context: typer.Context, names: Collection[str], reason: str) -> None:
    """Refuse the first option of the command line that this call would pass over in silence.

    Args:
        names: Parameters of the command whose options have no effect.
        reason: Clause that says why.
    """
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name in names and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(reason, param_hint=option.opts[0])


def named_paths(option: str, texts: Iterable[str], *, folders: bool = False) -> dict[str, Path]:
    """The paths of an option that is given as NAME=PATH, once for each name."""
    kind = "folder" if folders else "file"
    found: dict[str, Path] = {}
    for text in texts:
        name, _, place = text.partition("=")
        path = Path(place)
        # Unlike Path.is_dir, these are false where a parent may not be searched.
        if not name or not place or not (os.path.isdir if folders else os.path.isfile)(path):
            raise typer.BadParameter(
                f"expected NAME={kind.upper()} with a {kind} that exists, not {text}", param_hint=option
            )
        if name in found:
            raise typer.BadParameter(f"the name {name} is given twice", param_hint=option)
        found[name] = path
    return found
