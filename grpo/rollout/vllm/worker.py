"""One rollout worker: a vLLM engine that answers seeded requests and takes new weights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from grpo.rollout.vllm.engine import EngineSpec, build_engine
from grpo.types import Response, SampleRequest

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM


def sampling_params(
    temperature: float, max_tokens: int, stop: Sequence[str], ignore_eos: bool = False
) -> Any:
    """vLLM's settings of a training sample, without its seed."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=temperature,
        max_tokens=max_tokens,
        stop=list(stop),
        include_stop_str_in_output=True,
        ignore_eos=ignore_eos,
        logprobs=0,  # of the sampled token only
        output_kind=RequestOutputKind.FINAL_ONLY,
        # a special token that the model wrote must not vanish from the graded text
        skip_special_tokens=False,
    )


def graded_part(
    token_ids: Sequence[int], text: str, cut: Sequence[str], tokenizer: Any
) -> tuple[list[int], str]:
    """Tokens that are trained and text that is graded, which are the same thing.

    The text goes without the end-of-sequence token, which is trained. A `cut` string at the end
    goes from both, with the whole tokens that it touches. A token that a stop string ends in is
    trained whole, as the policy chose it.
    """
    kept = list(token_ids)
    if kept[-1] == tokenizer.eos_token_id:
        return kept, text.removesuffix(tokenizer.eos_token)
    unwanted = next((string for string in cut if text.endswith(string)), None)
    if unwanted is not None:
        end = len(text) - len(unwanted)
        while kept and len(tokenizer.decode(kept)) > end:
            kept.pop()
        return kept, tokenizer.decode(kept)
    return kept, text


class RolloutWorker:
    """Knows tokens and weights, and nothing of rewards or advantages. All methods are for one event
    loop.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self._engine: AsyncLLM | None = None
        self._served = 0  # makes request ids unique over the life of the engine

    async def start(self) -> None:
        """Load the model. Separate from construction, because the engine belongs to the running
        event loop.
        """
        self._engine = build_engine(self.spec)
        await self._engine.update_weight_version(
            "0"
        )  # those of the model folder, until others come

    @property
    def engine(self) -> AsyncLLM:
        """The engine, once it has been started."""
        assert self._engine is not None, "start() comes first"
        return self._engine

    async def sample(
        self,
        requests: Sequence[SampleRequest],
        *,
        temperature: float,
        max_tokens: int,
        stop: Sequence[str],
        cut: Sequence[str] = (),
        ignore_eos: bool = False,
        flush_seconds: float = 0.2,
    ) -> AsyncIterator[list[Response]]:
        """Generate all responses; finished ones are handed out together, every `flush_seconds` or
        so.

        Each request is its own: n=1 and its own seed, so that it gives the same tokens alone as in
        any company.
        `stop` strings belong to the answer and stay in it, tokens and text alike; `cut` strings end
        it as well and are taken off, tokens and text alike.
        """
        base = sampling_params(temperature, max_tokens, [*stop, *cut], ignore_eos)
        finished: list[Response] = []
        tasks = [
            asyncio.create_task(self._generate(request, base, cut, finished))
            for request in requests
        ]
        waiting = asyncio.gather(*tasks)
        try:
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=flush_seconds)
                ready, finished[:] = (
                    finished[:],
                    [],
                )  # whoever takes these may let more finish meanwhile
                yield ready
            waiting.result()
            yield finished
        finally:
            waiting.cancel()

    async def _generate(
        self, request: SampleRequest, base: Any, cut: Sequence[str], finished: list[Response]
    ) -> None:
        params = base.clone()
        params.seed = request.seed
        output = await self._run({"prompt_token_ids": request.prompt_token_ids}, params)
        completion = output.outputs[0]
        (version,) = {span.version for span in completion.weight_versions}
        token_ids, text = graded_part(
            completion.token_ids, completion.text, cut, self.engine.get_tokenizer()
        )
        logprobs = [
            steps[token].logprob
            for token, steps in zip(token_ids, completion.logprobs, strict=False)
        ]
        finished.append(
            Response(
                key=request.key,
                token_ids=token_ids,
                text=text,
                logprobs=logprobs,
                finish_reason=completion.finish_reason,
                weight_version=int(version),
                seed=request.seed,
            )
        )

    async def prompt_logprobs(
        self, token_ids: Sequence[int], temperature: float = 1.0
    ) -> list[float]:
        """Log-probs of a fixed text, from its second token on, as the engine's weights see them."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=temperature, max_tokens=1, prompt_logprobs=0)
        output = await self._run({"prompt_token_ids": list(token_ids)}, params)
        rows = zip(token_ids[1:], output.prompt_logprobs[1:], strict=True)
        return [row[token].logprob for token, row in rows]

    async def _run(self, prompt: Any, params: Any) -> RequestOutput:
        self._served += 1
        async for output in self.engine.generate(prompt, params, str(self._served)):
            last = output
        return last

    # --- weight transfer: the control calls of vLLM's API
    # -------------------------------------------------------

    async def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Meet the sender."""
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        await self.engine.init_weight_transfer_engine(
            WeightTransferInitRequest(init_info=init_info)
        )

    async def start_weight_update(self) -> None:
        """New weights are about to come."""
        await self.engine.start_weight_update()

    async def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receive them."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        await self.engine.update_weights(WeightTransferUpdateRequest(update_info=update_info))

    async def finish_weight_update(self) -> None:
        """Put them to use."""
        await self.engine.finish_weight_update()

    async def set_weight_version(self, version: str) -> None:
        """Forget cached prefixes of the old weights, and report `version` with every sample from
        now on.
        """
        await self.engine.reset_prefix_cache()
        await self.engine.update_weight_version(version)

    async def shutdown(self) -> None:
        """Stop the engine."""
        if self._engine is not None:
            self._engine.shutdown()
