"""What a prompt leaves behind in a real ComfyUI: python tests/attack/memory.py [PROMPTS]."""

import sys
from itertools import count
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACK = HERE.parent.parent
sys.path[:0] = [str(HERE), str(PACK), str(PACK / "scripts")]

from comfyui_server import Server, run_prompt  # noqa: E402
from on_host import graph_of, served  # noqa: E402

WARM_UP = 100  # prompts until caches and the allocator have what they keep
MOST = 0.05  # MB a prompt
STAGES = ("Show1Keyframes", "Show1Interpolate", "Show1PixelSR", "Show1LatentExpertSR")


def main(prompts: int = 200) -> int:
    """Queues every stage in turn, with a seed of its own each time; 1 if a prompt leaves more."""
    seeds = count()
    with served() as server:
        for _ in range(WARM_UP):
            queue(server, next(seeds))
        before = resident(server)
        for _ in range(prompts):
            queue(server, next(seeds))
        each = (resident(server) - before) / prompts
    print(f"{prompts} prompts after {WARM_UP}: {before:.0f} MB, {each:+.3f} MB a prompt")
    return int(each > MOST)


def queue(server: Server, seed: int) -> None:
    stage = STAGES[seed % len(STAGES)]
    result = run_prompt(server, graph_of((stage, "seed", "", seed)).prompt)
    if result.status != "success":
        raise SystemExit(f"{stage} with seed {seed}: {result.status}: {result.message}")


def resident(server: Server) -> float:
    """MB of memory the server's process holds."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
