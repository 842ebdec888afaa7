"""An interpreter that does nothing and imports nothing: what everything else's memory is counted from."""

from __future__ import annotations

import subprocess
import sys

from bench.cases.report import report

STATUS = "for line in open('/proc/self/status'):\n if line[:6] == 'VmHWM:': print(int(line.split()[1]) * 1024)"
RUSAGE = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"  # where there is no /proc

if __name__ == "__main__":
    program = STATUS if sys.platform == "linux" else RUSAGE
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    report(peak_bytes=int(answer.stdout))
