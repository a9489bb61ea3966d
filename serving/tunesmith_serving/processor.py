"""What this machine's processor can do, as far as serving depends on it.

`settings.py` chooses the number format by it, and the vLLM plugin the kernels.
"""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# x86 with AVX-512 or AMX, Arm.
_NATIVE_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def read_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """The instruction sets of the first processor (`flags` on x86, `Features` on Arm).

    Empty where the system has no such file.
    """
    if not cpuinfo.is_file():
        return frozenset()
    for line in cpuinfo.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def has_amx(flags: frozenset[str]) -> bool:
    """Whether vLLM would choose its attention kernel for matrix tiles."""
    return "amx_tile" in flags


def has_bfloat16(flags: frozenset[str]) -> bool:
    """Whether the processor multiplies bfloat16 itself, instead of converting every number."""
    return bool(flags & _NATIVE_BFLOAT16)
