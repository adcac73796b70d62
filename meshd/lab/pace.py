"""How much longer than on a real processor the lab waits for everything: no measure of what it waits for.

In the kernel lab's virtual machine (tools/kernel-lab.sh says so in the environment) the processor is
emulated, 10 to 15 times slower than the machine's own.
"""

from __future__ import annotations

import os
from typing import Final

EMULATED: Final = os.environ.get("KERNEL_LAB") == "1"
PACE: Final = 10.0 if EMULATED else 1.0
