"""What goes in and what comes out, in OpenAI's shapes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_BODY_BYTES = 1024 * 1024


class _Shape(BaseModel):
    # Clients send many fields (temperature, tools, …) that mean nothing to an echo.
    model_config = ConfigDict(extra="ignore", strict=True)


class TextPart(_Shape):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class Message(_Shape):
    """One message of the conversation."""

    role: Literal["developer", "system", "user", "assistant", "tool"]
    content: str | list[TextPart]

    def text(self) -> str:
        """What it says."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class CompletionRequest(_Shape):
    """The body of `POST /v1/chat/completions`."""

    model: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
    messages: Annotated[list[Message], Field(min_length=1, max_length=2048)]
    stream: bool = False
    n: Annotated[int, Field(ge=1, le=1)] = 1


class Refusal(Exception):  # noqa: N818 - it becomes an answer
    """A request that can't be served, with the answer to give.

    Args:
        status: the HTTP status.
        message: for the caller.
        param: the field that is wrong, as a path.
        code: a word for programs.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return error_body(self.status, str(self), self.param, self.code)


def error_body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """OpenAI's error object for a status."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def parse(body: bytes) -> CompletionRequest:
    """Read the body of a request.

    Raises:
        Refusal: 400, with every problem and its place.
    """
    try:
        return CompletionRequest.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
    if problems[0]["type"] == "json_invalid":
        raise Refusal(400, "the body is not JSON in UTF-8", code="invalid_json")
    places = [".".join(map(str, problem["loc"])) for problem in problems]
    lines = [
        f"{place or 'the body'}: {problem['msg']}"
        for place, problem in zip(places, problems, strict=True)
    ]
    raise Refusal(400, "; ".join(lines[:8]), param=places[0] or None, code="invalid_value")
