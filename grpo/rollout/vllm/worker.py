"""One rollout worker: a vLLM engine that answers seeded requests and takes new weights."""

from __future__ import annotations

import asyncio
import os
import re
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo.common.faults import fault
from grpo.rollout.vllm.engine import EngineSpec, build_engine
from grpo.types import Response, SampleRequest, SamplingSettings

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM

FLUSH_SECONDS = 0.2  # finished responses are handed out together, at most this old


def sampling_params(
    settings: SamplingSettings, seed: int | None, end_ids: Sequence[int], begun: int = 0
) -> Any:
    """vLLM's settings of one request, of whose response there are `begun` tokens already."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=min(settings.max_tokens - begun, settings.segment_tokens or settings.max_tokens),
        stop=[*settings.stop, *settings.cut],
        stop_token_ids=[] if settings.ignore_eos else list(end_ids),
        include_stop_str_in_output=True,
        ignore_eos=settings.ignore_eos,
        logprobs=0,  # of the sampled token only
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_special_tokens=False,  # a special token that the model wrote must not vanish
        seed=seed,
    )


def graded_part(
    token_ids: Sequence[int],
    text: str,
    cut: Sequence[str],
    tokenizer: Any,
    end_ids: Collection[int],
) -> tuple[list[int], str]:
    """Tokens that are trained and text that is graded, which are the same thing.

    The text goes without the end token, which is trained. Which of the model's end tokens it is
    makes no difference. A `cut` string at the end goes from both, with the whole tokens that it
    touches. A token that a stop string ends in is trained whole, as the policy chose it.
    """
    kept = list(token_ids)
    if kept and kept[-1] in end_ids:
        return kept, text.removesuffix(tokenizer.decode(kept[-1:]))
    unwanted = next((string for string in cut if text.endswith(string)), None)
    if unwanted is not None:
        end = len(text) - len(unwanted)
        while kept and len(tokenizer.decode(kept)) > end:
            kept.pop()
        return kept, tokenizer.decode(kept)
    return kept, text


def joined(
    before: Sequence[int],
    after: Sequence[int],
    reason: str,
    stops: Sequence[str],
    tokenizer: Any,
) -> tuple[list[int], str, str]:
    """Tokens, text and finish reason of a response that was made in two parts.

    The text is decoded as a whole, since a character may begin in one part and end in the other. So
    may a stop string, which the engine then did not see: the response ends there.
    """
    token_ids = [*before, *after]
    text = tokenizer.decode(token_ids)
    seen = len(tokenizer.decode(list(before)))
    for count in range(len(before) + 1, len(token_ids) + 1):
        part = tokenizer.decode(token_ids[:count])
        if any(stop in part[max(0, seen - len(stop)) :] for stop in stops):
            return token_ids[:count], part, "stop"
        if len(part) > seen + max(map(len, stops), default=0):
            break  # from here on the engine has seen whole strings
    return token_ids, text, reason


def logged_error(num_lines: int = 12) -> str:
    """The last lines that look like an error in the file that this process logs to.

    An engine's processes write there too, being its children. Empty where standard error is no
    file.
    """
    try:
        log = Path("/proc/self/fd/2").resolve()
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 2**16))
            lines = file.read().decode(errors="replace").splitlines()
    except (OSError, ValueError):
        return ""
    errors = [line for line in lines if re.search(r"\w(Error|Exception)\b", line)]
    return "\n".join(dict.fromkeys(errors[-num_lines:]))


class RolloutWorker:
    """Knows tokens and weights, and nothing of rewards or advantages. All methods are for one event
    loop.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self._engine: AsyncLLM | None = None
        self._served = 0  # makes request ids unique over the life of the engine
        self._tasks: dict[int, asyncio.Task[None]] = {}  # in flight, by the caller's key
        self._ids: dict[int, str] = {}
        self._finished: list[Response] = []
        self._asleep: set[str] = set()  # parts of its memory that it has let go of
        self._aborted: dict[int, Response] = {}

    async def start(self) -> None:
        """Load the model. Separate from construction, because the engine belongs to the running
        event loop.

        Raises:
            RuntimeError: a process of the engine failed. vLLM only says that there is a cause above
                in the log; the message has it.
        """
        try:
            self._engine = build_engine(self.spec)
        except RuntimeError as error:
            if not (cause := logged_error()):
                raise
            raise RuntimeError(f"{error}\n{cause}") from None
        # Those of the model folder, until others come.
        await self._engine.update_weight_version("0")

    @property
    def engine(self) -> AsyncLLM:
        """The engine, once it has been started."""
        assert self._engine is not None, "start() comes first"
        return self._engine

    async def submit(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> None:
        """Begin to generate; `completed` hands out what is finished.

        Each request is its own: n=1 and its own seed, so that it gives the same tokens alone as in
            any company.
        `stop` strings belong to the answer and stay in it, tokens and text alike; `cut` strings end
        it as well and are taken off, tokens and text alike.
        """
        fault("engine.submit")
        self._check_awake()
        for request in requests:
            self._ids[request.key] = request_id = self._next_id()
            task = asyncio.create_task(self._generate(request, settings, request_id))
            self._tasks[request.key] = task

    async def completed(self, wait_seconds: float = 5.0) -> list[Response]:
        """Responses that were finished since the last call. Waits for the first, and a moment for
        its neighbours.

        Returns an empty list after `wait_seconds` without any.

        Raises:
            Exception: whatever a request failed with.
        """
        if not self._finished and self._tasks:
            # A request that fails is done too. Its error must end the wait.
            tasks = {*self._tasks.values()}
            done, _ = await asyncio.wait(
                tasks, timeout=wait_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                return []
        if self._tasks:
            await asyncio.wait({*self._tasks.values()}, timeout=FLUSH_SECONDS)
        for key, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[key], self._ids[key]
                task.result()
        ready, self._finished = self._finished, []
        if ready:
            fault("engine.finished", version=ready[0].weight_version)
        return ready

    async def abort(self, keys: Collection[int] | None = None) -> list[Response]:
        """Take requests back, all of them without `keys`, and return what they have so far as
        partial responses.

        A partial response has the finish reason "abort". Finished ones are still handed out by
        `completed`.
        """
        chosen = [key for key in self._tasks if keys is None or key in keys]
        tasks = [self._tasks.pop(key) for key in chosen]
        ids = [self._ids.pop(key) for key in chosen]
        waiting = asyncio.gather(*tasks)
        while not waiting.done():
            # Again and again, because a request that the engine has not seen yet cannot be aborted.
            await self.engine.abort(ids)
            await asyncio.wait({waiting}, timeout=0.05)
        waiting.result()
        return [self._aborted.pop(key) for key in chosen if key in self._aborted]

    async def _generate(
        self, request: SampleRequest, settings: SamplingSettings, request_id: str
    ) -> None:
        begun = request.begun
        before = [] if begun is None else begun.token_ids
        params = sampling_params(settings, request.seed, self.spec.end_token_ids, len(before))
        prompt = {"prompt_token_ids": [*request.prompt_token_ids, *before]}
        output = await self._run(prompt, params, request_id)
        completion = output.outputs[0]
        reason, tokenizer = completion.finish_reason, self.engine.get_tokenizer()
        token_ids, text = [*before, *completion.token_ids], completion.text
        if begun is not None:
            token_ids, text, reason = joined(
                before, completion.token_ids, reason, (*settings.stop, *settings.cut), tokenizer
            )
        if reason == "length" and len(token_ids) < settings.max_tokens:
            reason = "segment"
        if reason not in ("abort", "segment"):  # not cut: they may be continued
            token_ids, text = graded_part(
                token_ids, text, settings.cut, tokenizer, self.spec.end_token_ids
            )
        steps = zip(completion.token_ids, completion.logprobs or (), strict=False)
        logprobs = [step[token].logprob for token, step in steps]
        spans = tuple((s.start, s.end, int(s.version)) for s in completion.weight_versions)
        version = spans[-1][2] if spans else -1
        if begun is not None:
            logprobs = [*begun.logprobs, *logprobs]
            earlier = begun.version_spans or ((0, len(before), begun.weight_version),)
            spans = (*earlier, *((a + len(before), b + len(before), v) for a, b, v in spans))
        response = Response(
            key=request.key,
            token_ids=token_ids,
            text=text,
            logprobs=logprobs[: len(token_ids)],
            finish_reason=reason,
            weight_version=version,
            seed=request.seed,
            version_spans=spans if len(spans) > 1 else (),
        )
        if response.finish_reason == "abort":
            self._aborted[request.key] = response
        else:
            self._finished.append(response)

    async def prompt_logprobs(
        self, token_ids: Sequence[int], temperature: float = 1.0
    ) -> list[float]:
        """Log-probs of a fixed text, from its second token on, as the engine's weights see them."""
        from vllm import SamplingParams

        self._check_awake()
        params = SamplingParams(temperature=temperature, max_tokens=1, prompt_logprobs=0)
        prompt = {"prompt_token_ids": list(token_ids)}
        output = await self._run(prompt, params, self._next_id())
        rows = zip(token_ids[1:], output.prompt_logprobs[1:], strict=True)
        return [row[token].logprob for token, row in rows]

    def _check_awake(self) -> None:
        if self._asleep:  # vLLM would queue the request for ever
            raise RuntimeError("the engine sleeps: it samples again after the next weight sync")

    def _next_id(self) -> str:
        self._served += 1
        return str(self._served)

    async def _run(self, prompt: Any, params: Any, request_id: str) -> RequestOutput:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            async for output in self.engine.generate(prompt, params, request_id):
                last = output
        except EngineDeadError:
            # On GPU the engine is a process of its own. Without it this one is of no use, and its
            # end is what the driver notices at once.
            traceback.print_exc()
            os._exit(1)
        return last

    # --- weight transfer: the control calls of vLLM's API -----------------------------------------

    async def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Meet the sender."""
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        request = WeightTransferInitRequest(init_info=init_info)
        await self.engine.init_weight_transfer_engine(request)

    async def pause(self) -> None:
        """Stop sampling between two tokens; what is in flight stays.

        `AsyncLLM.pause_generation` is this call and a sleep of 20 ms, in which tokens that are
        already made reach their readers. They may come later here: each knows its weights.
        """
        await self.engine.engine_core.pause_scheduler_async(mode="keep", clear_cache=False)

    async def resume(self) -> None:
        """Go on sampling."""
        await self.engine.resume_generation()

    async def sleep(self) -> None:
        """Throw weights and KV cache away, and let go of their GPU memory.

        Raises:
            RuntimeError: something is in flight, whose cache would be lost.
        """
        if self._tasks:
            raise RuntimeError(f"{len(self._tasks)} requests are in flight: an engine cannot sleep")
        if not self._asleep:
            await self.engine.sleep(level=2)
            self._asleep = {"weights", "kv_cache"}

    async def wake(self, part: str) -> None:
        """Take the memory of "weights" or "kv_cache" again. What was in it is gone."""
        if part in self._asleep:
            await self.engine.wake_up([part])
            self._asleep.remove(part)

    async def start_weight_update(self) -> None:
        """New weights are about to come."""
        fault("engine.update")
        await self.engine.start_weight_update()

    async def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receive them."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        await self.engine.update_weights(WeightTransferUpdateRequest(update_info=update_info))

    async def finish_weight_update(self) -> None:
        """Put them to use."""
        await self.engine.finish_weight_update()

    async def set_weight_version(self, version: str) -> None:
        """Forget the KV cache of the old weights, and report `version` with every token from now
        on.

        What is in flight computes its cache again under the new weights.

        Raises:
            RuntimeError: the cache could not be dropped, so that tokens of two policies would mix
                unseen.
        """
        if not await self.engine.reset_prefix_cache(reset_running_requests=True):
            raise RuntimeError(f"vLLM kept KV blocks of older weights at version {version}")
        await self.engine.update_weight_version(version)

    async def weight_hashes(self, announced: dict[str, Any]) -> list[dict[str, Any]]:
        """What each vLLM worker of the engine computes with: `grpo.weights.inspection`."""
        found = await self.engine.collective_rpc("weight_hashes", args=(announced,))
        return list(found)

    async def shutdown(self) -> None:
        """Stop the engine."""
        if self._engine is not None:
            self._engine.shutdown()
            self._engine = None
