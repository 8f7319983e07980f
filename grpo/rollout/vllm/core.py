"""An engine core for `AsyncLLM` that lives in the same process: the asynchronous face of vLLM's
`InprocClient`.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from vllm.v1.engine.core_client import EngineCoreClient, InprocClient


class AsyncInprocClient(InprocClient):
    """Steps the engine core whenever the output loop of `AsyncLLM` asks for more.

    Requests are added and aborted between steps, so a response that meets its stop string never
    costs one more.
    """

    def __init__(self, vllm_config: Any, executor_class: Any, log_stats: bool) -> None:
        super().__init__(vllm_config, executor_class, log_stats)
        self.resources = SimpleNamespace(engine_dead=False)  # `AsyncLLM.errored` looks here
        self._work = asyncio.Event()

    async def get_output_async(self) -> Any:
        """Outputs of the next step; waits while there is no request, or while sampling is
        paused.
        """
        core = self.engine_core
        while not core.scheduler.has_requests() or core.is_scheduler_paused():
            self._work.clear()
            await self._work.wait()
        await asyncio.sleep(0)  # let those who wait for finished responses run
        return self.get_output()

    async def add_request_async(self, request: Any) -> None:
        """Queue a request."""
        self.add_request(request)
        self._work.set()

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        """Drop requests, such as those that met a stop string."""
        self.abort_requests(request_ids)

    async def pause_scheduler_async(self, mode: str = "abort", clear_cache: bool = True) -> None:
        """Stop stepping; what is in flight stays with mode "keep"."""
        self.engine_core.pause_scheduler(mode, clear_cache)

    async def resume_scheduler_async(self) -> None:
        """Step again."""
        self.engine_core.resume_scheduler()
        self._work.set()

    async def is_scheduler_paused_async(self) -> bool:
        """Is sampling paused?"""
        return bool(self.engine_core.is_scheduler_paused())

    async def sleep_async(self, level: int = 1, mode: str = "abort") -> None:
        """Let go of memory. vLLM's CPU worker keeps all it has."""
        self.sleep(level, mode)

    async def wake_up_async(self, tags: list[str] | None = None) -> bool:
        """Take memory again; is everything awake?"""
        awake = bool(self.wake_up(tags))
        self._work.set()
        return awake

    async def collective_rpc_async(
        self,
        method: Any,
        timeout: float | None = None,
        args: tuple[Any, ...] = (),
        kwargs: Any = None,
    ) -> Any:
        """Call a method of the worker."""
        return self.collective_rpc(method, timeout, args, kwargs)

    async def get_supported_tasks_async(self) -> Any:
        """What the model can be used for."""
        return self.get_supported_tasks()

    async def reset_prefix_cache_async(
        self, reset_running_requests: bool = False, reset_connector: bool = False
    ) -> bool:
        """Forget cached prefixes."""
        return bool(self.reset_prefix_cache(reset_running_requests, reset_connector))

    async def set_weight_version_async(self, weight_version: str) -> None:
        """Outputs from now on carry this version."""
        self.set_weight_version(weight_version)

    async def get_weight_version_async(self) -> str:
        """The version that outputs carry."""
        return str(self.get_weight_version())


def use_inprocess_core() -> None:
    """From now on `AsyncLLM` in this process runs its core here."""

    def make(vllm_config: Any, executor_class: Any, log_stats: bool, **_: Any) -> AsyncInprocClient:
        return AsyncInprocClient(vllm_config, executor_class, log_stats)

    EngineCoreClient.make_async_mp_client = staticmethod(make)
