"""`grpo verify`: is the record of a run what was written, and do its steps come out again?

grpo verify runs/tiny/TIME
grpo verify runs/tiny/TIME --steps 0            # the record alone, without engines
grpo verify runs/tiny/TIME --at 17 --at 40
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path

from grpo.common.command_line import Parser, file_path, run, say
from grpo.common.errors import UserError

EXIT_DIFFERENT = 1  # as diff(1) has it


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify from the command line; returns the exit code, 1 where something does not agree."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        "grpo verify",
        "Check the hash chain of a run, then do some of its steps again and compare bit for bit.",
    )
    parser.add_argument("run", type=file_path, metavar="RUN", help="the folder of the run")
    parser.add_argument(
        "--steps", type=int, default=3, metavar="K", help="random steps to do again; 0: none"
    )
    parser.add_argument(
        "--at", type=int, action="append", default=[], metavar="STEP", help="a step to do again"
    )
    parser.add_argument(
        "--reach",
        type=int,
        default=5,
        metavar="N",
        help="random steps are at most N steps after a checkpoint",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of steps")
    args = parser.parse(arguments)
    if args.steps < 0 or args.reach < 1:
        raise UserError(f"--steps={args.steps} --reach={args.reach}: give at least 0 and 1")
    if not check_folder(args.run):
        return EXIT_DIFFERENT
    if not args.steps and not args.at:
        return 0
    return 0 if do_again(args.run, args.at, args.steps, args.reach, args.seed) else EXIT_DIFFERENT


def check_folder(run_dir: Path) -> bool:
    """Compare the record and the checkpoints of a run with its chain; tell what was found.

    Raises:
        UserError: the folder has no chain.
    """
    from grpo.checkpoint.folder import Checkpoints, DamagedError
    from grpo.learner.partitions import saved_layer_hashes
    from grpo.tracking.chain import FILE, Quantity, check_record, read_chain

    try:
        fault, counts = check_record(run_dir)
    except FileNotFoundError:
        raise UserError(
            f"{run_dir}: has no {FILE}; name the folder of a run of grpo train that wrote one"
        ) from None
    if fault is not None:
        print(f"step {fault.step}, {fault.what}: {fault.text}")
        return False
    links = {link.step: link for link in read_chain(run_dir)}
    told = ", ".join(f"{quantity} {counts[quantity]}" for quantity in Quantity)
    print(f"the record agrees with its chain; steps compared: {told}")
    if counts[Quantity.TOKENS] < counts[Quantity.DATA]:
        say("tracking.rollout_tokens=false: tokens and log-probs were not recorded; their digests")
        say("in the chain are compared only with steps that are done again")
    checkpoints = Checkpoints(run_dir)
    for step in checkpoints.steps():
        try:
            found = checkpoints.read(step)
        except DamagedError as error:
            print(f"step {step}, checkpoint: {error}")
            return False
        link = links.get(step)
        if link is None or found.state.get("chain") != link.chain:
            print(f"step {step}, checkpoint: it was not written after this link of the chain")
            return False
        if link.weights:
            files = sorted(Path(found.learner_folder).glob("rank_*.safetensors"))
            saved = {name: f"{value:016x}" for name, value in saved_layer_hashes(files).items()}
            different = [name for name in link.weights if saved.get(name) != link.weights[name]]
            if different:
                print(f"step {step}, weights of the checkpoint: {', '.join(different)} differ")
                return False
    print(f"checkpoints that agree with it: {', '.join(map(str, checkpoints.steps())) or 'none'}")
    if links:
        print(f"chain at step {max(links)}: {links[max(links)].chain}")
    return True


def do_again(run_dir: Path, at: Sequence[int], count: int, reach: int, seed: int) -> bool:
    """Do steps of a run again and compare them with its record; tell what was found.

    Args:
        run_dir: whose record agrees with its chain.
        at: steps that are done again. None: `count` random ones.
        count: of random steps.
        reach: they are at most so many steps after a checkpoint.
        seed: of the choice.

    Raises:
        UserError: there is no such step, or it cannot be done again here.
    """
    from grpo.checkpoint.folder import Checkpoints
    from grpo.config.load import load_run_config
    from grpo.reexecution import (
        base_evaluations,
        nearest,
        other_machine,
        read_start,
        reexecution,
    )
    from grpo.tracking.chain import Record
    from grpo.tracking.difference import first_difference

    recipe, config = load_run_config(run_dir)
    record, starts = Record(run_dir), Checkpoints(run_dir).steps()
    steps = [step for step in record.steps if step]
    if strange := sorted(set(at) - set(steps)):
        raise UserError(f"--at {strange[0]}: the run has steps {steps[:1]} to {steps[-1:]}")
    near = [step for step in steps if step - nearest(starts, step) <= reach]
    chosen = sorted(set(at)) or sorted(random.Random(seed).sample(near, min(count, len(near))))
    ends: dict[int, int] = {}
    for step in chosen:
        ends[nearest(starts, step)] = step
    strange_here = other_machine(run_dir)
    for line in strange_here:
        say(f"not where the run was made, so the last bits may differ: {line}")
    base = base_evaluations(run_dir)
    done: list[int] = []
    with reexecution(run_dir, recipe, config) as (training, again):
        for start, end in sorted(ends.items()):
            say(f"doing steps {start + 1} to {end} again, from checkpoint {start}")
            checkpoint = read_start(training, start)
            training.stand_at(checkpoint, base)
            training.go_on(end, checkpoint)
            done += range(start + 1, end + 1)
            found = first_difference(record, Record(again), range(start + 1, end + 1))
            if found is not None:
                print(f"step {found.step} comes out different, first in {found.quantity}:")
                print(f"{found.text} (record against now)")
                if strange_here:
                    print("This is another machine or other code: see above.")
                return False
    print(f"the same to the last bit: steps {', '.join(map(str, done))}")
    return True


if __name__ == "__main__":
    sys.exit(main())
