"""What a session needs of a network: what it takes, what its outputs mean, and which network it is."""

from __future__ import annotations

from dataclasses import dataclass

from autosam_edge.volume import Label

MAX_SIDE = 512  # of a patch, voxels


@dataclass(frozen=True)
class InputContract:
    """What the artifact's input tensor is.

    Args:
        modality: ``CT``.
        axes: ``DHW``: D to superior, H to posterior, W to the patient's left.
        unit: ``HU``; the graph clips to the window and scales to what the network was trained on itself.
        spacing_mm: Spacing (D, H, W) in mm.
        window_hu: (low, high), HU.
        resampling: ``antialiased-linear``.
        patch: Tile (D, H, W) in voxels.
        overlap: Share of a tile that its neighbor covers again.
        blend: ``gaussian`` weights on softmax probabilities.
    """

    modality: str
    axes: str
    unit: str
    spacing_mm: tuple[float, float, float]
    window_hu: tuple[float, float]
    resampling: str
    patch: tuple[int, int, int]
    overlap: float
    blend: str

    def __post_init__(self) -> None:
        known = {
            "modality": "CT",
            "axes": "DHW",
            "unit": "HU",
            "resampling": "antialiased-linear",
            "blend": "gaussian",
        }
        for name, value in known.items():
            if getattr(self, name) != value:
                raise ValueError(f"input.{name} is {getattr(self, name)!r}, this runtime knows {value!r}")
        if len(self.spacing_mm) != 3 or not all(0.1 <= s <= 20 for s in self.spacing_mm):
            raise ValueError("input.spacing_mm must be three numbers from 0.1 to 20")
        if len(self.patch) != 3 or not all(isinstance(p, int) and 16 <= p <= MAX_SIDE for p in self.patch):
            raise ValueError(f"input.patch must be three whole numbers from 16 to {MAX_SIDE}")
        if not 0 <= self.overlap < 1 or len(self.window_hu) != 2 or not self.window_hu[0] < self.window_hu[1]:
            raise ValueError("input.overlap must lie in [0, 1) and input.window_hu must rise")


@dataclass(frozen=True)
class Model:
    """A network without its weights: that of a bundle (``bundle.model``), or that of a student in memory.

    Args:
        input: What the network takes.
        labels: The organs that its outputs stand for, numbered 1, 2, 3, ...; output 0 is the background.
        one_part: Names of the organs that are one object in the body: of several parts the surest is kept.
        name: Model name, such as ``pocketnet-btcv-3mm``.
        version: Model version.
        license: License of the weights.
        sha256: Hash that identifies the model, hexadecimal; empty when there is none.

    Raises:
        ValueError: The labels are numbered otherwise, or ``one_part`` names an organ that is not among them.
    """

    input: InputContract
    labels: tuple[Label, ...]
    one_part: tuple[str, ...]
    name: str
    version: str
    license: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        values = [label.value for label in self.labels]
        if values != list(range(1, len(values) + 1)):
            raise ValueError("labels must be numbered 1, 2, 3, ...")
        if unknown := sorted(set(self.one_part) - {label.name for label in self.labels}):
            raise ValueError(f"one_part names {unknown[0]!r}, which is no label")

    @property
    def classes(self) -> int:
        """Number of outputs: the organs and the background."""
        return len(self.labels) + 1
