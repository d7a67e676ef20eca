"""The catalogue of node types: what a node has and what it draws.

Watts are nameplate figures of the whole node (IT load, without cooling). ``LAB`` is the stand-in on a machine without
accelerators: virtual slots with nominal watts, never sold or printed as anything else.
"""

from dataclasses import dataclass

from headrace.core.units import ceil_div


@dataclass(frozen=True, slots=True)
class HardwareType:
    """One type of node.

    ``nameplate_w`` is the most that the node draws; ``idle_w`` what it draws with nothing running; ``accelerator_w`` the
    most of one accelerator and ``accelerator_idle_w`` its idle draw. ``cap_min_w`` is the lowest power cap of one
    accelerator (0: it can't be capped). ``domain_nodes`` nodes share one fast fabric. ``source`` says where the figures are from.
    ``mj_per_th`` is what a mining machine takes for a terahash, in millijoules (J/TH in thousandths; 0: it is none).
    """

    id: str
    accelerator: str
    accelerators: int
    nameplate_w: int
    idle_w: int
    accelerator_w: int
    accelerator_idle_w: int
    cpu_milli: int
    memory_mb: int
    accelerator_memory_mb: int = 0
    cap_min_w: int = 0
    domain_nodes: int = 1
    source: str = ""
    mj_per_th: int = 0

    @property
    def is_miner(self) -> bool:
        """Whether it is a mining machine: it hashes by itself, and runs nothing of anybody's."""
        return self.mj_per_th > 0

    def node_watts(self, used: int, busy: bool) -> int:
        """Most that a node draws with ``used`` accelerators taken; ``busy`` when anything runs on it at all."""
        if not busy:
            return self.idle_w
        base_w = self.nameplate_w - self.accelerators * self.accelerator_w
        return base_w + used * self.accelerator_w + (self.accelerators - used) * self.accelerator_idle_w

    def share_watts(self, accelerators: int, cpu_milli: int, running: bool) -> int:
        """Watts attributed to one rank: its share of nameplate while it runs, of idle while it is paused.

        The share is by accelerators, or by processors for a rank without any; rounded down, so that the ranks of a
        node never add up to more than the node.
        """
        whole_w = self.nameplate_w if running else self.idle_w
        if accelerators:
            return whole_w * accelerators // self.accelerators
        base_w = whole_w - (self.accelerators * self.accelerator_w if running else 0)
        return max(0, base_w) * min(cpu_milli, self.cpu_milli) // self.cpu_milli

    def accelerator_mask(self) -> int:
        """A bit for each accelerator of the node."""
        return (1 << self.accelerators) - 1


def _dgx(
    ident: str, model: str, node_w: int, accelerator_w: int, memory_gb: int, source: str
) -> HardwareType:
    return HardwareType(
        id=ident,
        accelerator=model,
        accelerators=8,
        nameplate_w=node_w,
        idle_w=ceil_div(node_w, 5),
        accelerator_w=accelerator_w,
        accelerator_idle_w=ceil_div(accelerator_w, 8),
        cpu_milli=112_000,
        memory_mb=2_000_000,
        accelerator_memory_mb=memory_gb * 1_000,
        cap_min_w=accelerator_w // 2,
        source=source,
    )


def _gb_tray(
    ident: str, model: str, rack_w: int, accelerator_w: int, memory_gb: int, source: str
) -> HardwareType:
    # A rack of 72 is 18 trays of 4; switches and power shelves are spread over the trays.
    node_w = rack_w // 18
    return HardwareType(
        id=ident,
        accelerator=model,
        accelerators=4,
        nameplate_w=node_w,
        idle_w=ceil_div(node_w, 5),
        accelerator_w=accelerator_w,
        accelerator_idle_w=ceil_div(accelerator_w, 8),
        cpu_milli=144_000,
        memory_mb=960_000,
        accelerator_memory_mb=memory_gb * 1_000,
        cap_min_w=accelerator_w // 2,
        domain_nodes=18,
        source=source,
    )


SHA256 = "sha256"
"""What the accelerator of a mining machine is called that does SHA-256: the whole machine is one."""


def _miner(ident: str, nameplate_w: int, mj_per_th: int, source: str) -> HardwareType:
    # The whole machine is its one accelerator: what it draws stopped, its control board and its fans, is its idle draw.
    return HardwareType(
        id=ident,
        accelerator=SHA256,
        accelerators=1,
        nameplate_w=nameplate_w,
        idle_w=MINER_IDLE_W,
        accelerator_w=nameplate_w,
        accelerator_idle_w=MINER_IDLE_W,
        cpu_milli=1_000,
        memory_mb=1_000,
        source=source,
        mj_per_th=mj_per_th,
    )


MINER_IDLE_W = 100
"""What a stopped mining machine is counted with, nominal: one that says that it draws more has not stopped."""

LAB = HardwareType(
    id="lab",
    accelerator="lab",
    accelerators=4,
    nameplate_w=1_000,
    idle_w=200,
    accelerator_w=200,
    accelerator_idle_w=25,
    cpu_milli=4_000,
    memory_mb=8_000,
    cap_min_w=100,
    source="nominal: no such hardware exists",
)

CATALOGUE: dict[str, HardwareType] = {
    hardware.id: hardware
    for hardware in (
        LAB,
        _dgx("a100-8", "A100", 6_500, 400, 80, "vendor's maximum of an 8-GPU A100 SXM system"),
        _dgx("h100-8", "H100", 10_200, 700, 80, "vendor's maximum of an 8-GPU H100 SXM system"),
        _dgx("h200-8", "H200", 10_200, 700, 141, "vendor's maximum of an 8-GPU H200 SXM system"),
        _dgx("b200-8", "B200", 14_300, 1_000, 180, "vendor's maximum of an 8-GPU B200 SXM system"),
        _dgx("b300-8", "B300", 14_500, 1_100, 288, "published node figure; a secondary source"),
        _gb_tray("gb200-nvl72", "GB200", 120_000, 1_200, 186, "published rack figure; a secondary source"),
        _gb_tray(
            "gb300-nvl72",
            "GB300",
            132_000,
            1_400,
            288,
            "power-shelf rating; published figures are 120 to 142 kW",
        ),
        _miner("whatsminer-m30s", 3_650, 31_000, "maker's typical 3,472 W at 31 J/TH, and 5 %"),
        _miner("whatsminer-m50s", 3_440, 26_000, "maker's typical 3,276 W at 26 J/TH, and 5 %"),
    )
}
