"""What makes a process compute as on a processor with fewer instructions.

OpenVINO's and torch's convolutions are oneDNN's, which heeds the first variable as it is loaded;
torch's own kernels heed the second. A few of OpenVINO's other kernels, such as its softmax, heed
neither; they take a twentieth of the time of a network. The environment of a process decides, so
it is set before the process begins.
"""

from __future__ import annotations

LIMITS = {"avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}}
"""Environment variables by what is allowed at most."""
