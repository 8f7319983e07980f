"""`grpo verify`: is the record of a run what was written, and do its steps come out again?

grpo verify runs/tiny/TIME
grpo verify runs/tiny/TIME --steps 0            # the record alone, without engines
grpo verify runs/tiny/TIME --at 17 --at 40
"""

from __future__ import annotations

import json
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
        "Check the hash chain and the checkpoints of a run, then do some of its steps again with "
        "the engines and ranks of its recipe and compare bit for bit.",
        "Exit codes: 0 all is equal, 1 something is not, 78 it cannot be compared, and why.",
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
    if not args.steps and not args.at:
        return 0 if check_folder(args.run) else EXIT_DIFFERENT
    refuse_other_folders(args.run)
    from grpo.config.load import load_run_config
    from grpo.reexecution import on_its_ranks
    from grpo.tracking.folder import read_state

    if read_state(args.run).get("state") == "running":
        raise UserError(
            f"{args.run}: a run is at work here; verify its record with --steps 0, and do steps "
            "again when it has ended"
        )
    _, config = load_run_config(args.run)

    def verify() -> int:
        whole = check_folder(args.run) and do_again(
            args.run, args.at, args.steps, args.reach, args.seed
        )
        return 0 if whole else EXIT_DIFFERENT

    return on_its_ranks(config, verify, "grpo.commands.verify")


def refuse_other_folders(run_dir: Path) -> None:
    """What is not the folder of a run of `grpo train` with a chain is told what it is.

    Raises:
        UserError: always then.
    """
    from grpo.tracking.chain import FILE

    if (run_dir / FILE).exists():
        return
    if not run_dir.is_dir():
        raise UserError(f"{run_dir}: no such folder; name that of a run of grpo train")
    below = sorted({*run_dir.glob(f"*/{FILE}"), *run_dir.glob(f"*/*/{FILE}")})
    if below:
        told = ", ".join(str(path.parent) for path in below[:3])
        more = f" and {len(below) - 3} more" if len(below) > 3 else ""
        raise UserError(f"{run_dir}: holds several runs; name one of them: {told}{more}")
    why = (
        "grpo sft and runs of older versions write none"
        if (run_dir / "config.yaml").exists()
        else "it is not the folder of a run"
    )
    raise UserError(f"{run_dir}: has no {FILE}, so nothing can be compared; {why}")


def check_folder(run_dir: Path) -> bool:
    """Compare the record and the checkpoints of a run with its chain; tell what was found.

    Raises:
        UserError: the folder has no chain.
    """
    from grpo.checkpoint.folder import Checkpoints, DamagedError
    from grpo.learner.partitions import saved_layer_hashes
    from grpo.tracking.chain import Quantity, check_record, read_chain
    from grpo.tracking.folder import read_state

    refuse_other_folders(run_dir)
    state = read_state(run_dir).get("state", "finished")
    fault, counts = check_record(run_dir, unfinished=state != "finished")
    if fault is not None:
        print(f"step {fault.step}, {fault.what}: {fault.text}")
        return False
    links = {link.step: link for link in read_chain(run_dir)}
    if not links:
        raise UserError(f"{run_dir}: the run ({state}) has no finished step that could be compared")
    if state != "finished":
        say(f"the run did not end by itself ({state}); it is compared up to step {max(links)}")
    told = ", ".join(f"{quantity} {counts[quantity]}" for quantity in Quantity)
    print(f"the record agrees with its chain; steps compared: {told}")
    if counts[Quantity.TOKENS] < counts[Quantity.DATA]:
        say("tracking.rollout_tokens=false: tokens and log-probs were not recorded; their digests")
        say("in the chain are compared only with steps that are done again")
    checkpoints, agree = Checkpoints(run_dir), []
    for step in checkpoints.steps():
        try:
            found = checkpoints.read(step)
        except DamagedError as error:
            if state == "running" and not checkpoints.path(step).exists():
                continue  # the run has deleted it just now
            print(f"step {step}, checkpoint: {error}")
            return False
        if step < min(links):
            say(f"the checkpoint of step {step} is of the run that this one branched off from")
            continue
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
        agree.append(str(step))
    print(f"checkpoints that agree with it: {', '.join(agree) or 'none'}")
    last = links[max(links)].chain
    try:
        summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        summary = {}
    if state == "finished" and summary.get("chain", last) != last:
        print(f"summary.json: its chain is {summary['chain']}, and the last link is {last}")
        return False
    print(f"chain at step {max(links)}: {last}")
    return True


def do_again(run_dir: Path, at: Sequence[int], count: int, reach: int, seed: int) -> bool:
    """Do steps of a run again and compare them with its record; tell what was found.

    Args:
        run_dir: whose record agrees with its chain.
        at: steps that are done again. Empty: `count` random ones.
        count: of random steps.
        reach: they are at most so many steps after a checkpoint.
        seed: of the choice.

    Raises:
        UserError: there is no such step, or it cannot be done again here.
    """
    from grpo.config.load import load_run_config
    from grpo.reexecution import base_evaluations, inexact, read_start, reexecution, starts_of
    from grpo.tracking.chain import Quantity, Record
    from grpo.tracking.difference import first_difference

    recipe, config = load_run_config(run_dir)
    record, starts = Record(run_dir), starts_of(run_dir, config)
    steps = [step for step in record.steps if 0 < step <= record.last_link]
    if strange := sorted(set(at) - set(steps)):
        had = f"steps {steps[0]} to {steps[-1]}" if steps else "no step"
        raise UserError(f"--at {strange[0]}: the run has {had}")
    near = [step for step in steps if starts.distance(step) <= reach]
    chosen = sorted(set(at)) or sorted(random.Random(seed).sample(near, min(count, len(near))))
    if not chosen:
        why = starts.lacking or [f"--reach={reach}: none is so near a checkpoint"]
        raise UserError(f"no step of this run can be done again: {'; '.join(why)}")
    ends: dict[int, int] = {}
    for step in chosen:
        ends[starts.before(step)] = step
    for line in starts.lacking:
        say(f"not everything can be done again: {line}")
    doubts = inexact(run_dir, config)
    for line in doubts:
        say(f"the last bits may differ here: {line}")
    if doubts:
        say("what can be compared here: everything up to the first difference by rounding, which")
        say("may be in tokens, log-probs, gradient or weights. Data, and what follows from equal")
        say("tokens, must be the same")
    base = base_evaluations(run_dir)
    done: list[int] = []
    with reexecution(run_dir, recipe, config) as (training, again):
        for start, end in sorted(ends.items()):
            told = f"steps {start + 1} to {end}" if end > start + 1 else f"step {end}"
            say(f"doing {told} again, from {f'checkpoint {start}' if start else 'the beginning'}")
            checkpoint = read_start(training, start)
            training.stand_at(checkpoint, base)
            training.go_on(end, checkpoint)
            found = first_difference(record, Record(again), range(start + 1, end + 1))
            if found is None:
                done += range(start + 1, end + 1)
                continue
            print(f"step {found.step} comes out different, first in {found.quantity}:")
            print(f"{found.text} (record against now)")
            same = [*done, *range(start + 1, found.step)]
            order = list(Quantity)
            before = ", ".join(order[: order.index(found.quantity)]) or "nothing"
            print(
                f"the same before that: steps {', '.join(map(str, same)) or 'none'}; and {before}"
            )
            rounded = (Quantity.TOKENS, Quantity.LOGPROBS, Quantity.GRADIENT, Quantity.WEIGHTS)
            if doubts and found.quantity in rounded:
                print("Rounding can do that on another machine or by other code: see above.")
                print("It proves nothing; verify where the run was made.")
            return False
    print(f"the same to the last bit: steps {', '.join(map(str, done))}")
    return True


if __name__ == "__main__":
    sys.exit(main())
