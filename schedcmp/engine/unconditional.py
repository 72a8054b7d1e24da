"""The denoiser's answer without the prompt, which pipelines mix with the other and then throw away (CFG++ needs it)."""

from __future__ import annotations

from typing import Any

import torch

from schedcmp.errors import RegistryError

_UNGUIDED = "CFG++ needs the denoiser's answers with and without the prompt from one batch, which {} does not make"


class Watched(torch.nn.Module):
    """A denoiser that remembers its last answer; all else is the real one's."""

    def __init__(self, denoiser: Any, pipeline: str) -> None:
        super().__init__()
        self.denoiser = denoiser
        self._pipeline = pipeline  # its class's name

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        answer = self.denoiser(*args, **kwargs)
        self._answer: torch.Tensor = answer[0]
        return answer

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.denoiser, name)

    def unconditional(self, guided: torch.Tensor) -> torch.Tensor:
        """The first half of the last answer, as pipelines order it; without guidance, `guided` itself.

        What a denoiser says beside its prediction, of its variance, is left out.

        Raises:
            RegistryError: the answer does not consist of two halves in the shape of `guided`, or of one.
        """
        rows, channels = guided.shape[:2]
        if self._answer.shape[2:] == guided.shape[2:] and self._answer.shape[1] >= channels:
            if len(self._answer) == rows:
                return guided
            if len(self._answer) == 2 * rows:
                return self._answer[:rows, :channels]
        raise RegistryError(_UNGUIDED.format(self._pipeline))


def watched(pipeline: Any) -> Watched:
    """Put a watch on the denoiser of a pipeline that is nobody else's.

    Raises:
        RegistryError: the pipeline has not one denoiser.
    """
    names = [name for name in ("unet", "transformer") if getattr(pipeline, name, None) is not None]
    two = getattr(pipeline, "transformer_2", None) is not None
    if len(names) != 1 or two:
        raise RegistryError(_UNGUIDED.format(type(pipeline).__name__))
    watch = Watched(getattr(pipeline, names[0]), type(pipeline).__name__)
    vars(pipeline)[names[0]] = watch  # not by setattr, which would change the pipeline's config
    return watch
