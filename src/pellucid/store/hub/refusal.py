"""What it means that a server refuses: a gated, private or missing model, no permission, too many requests.

The status alone says little: this kind of server answers 401 for a repository that is not there. It tells more in the
header `X-Error-Code`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pellucid.errors import BrokenOffError, FetchError
from pellucid.untrusted import shown


def refuse(status: int, headers: Mapping[str, str], page: str) -> FetchError:
    """The error for an answer that holds no file; `page` is the repository's address, for a person."""
    code, message = headers.get("x-error-code", ""), headers.get("x-error-message", "")
    found = f"{status} {shown(message or code)}" if message or code else str(status)
    if code == "GatedRepo":
        return FetchError(
            "this model is given only to those who agree to its terms", found=found, where=page,
            hint="agree on that page, then say who you are: HF_TOKEN=… (a token of your account), or `hf auth login`",
        )  # fmt: skip
    if code == "RevisionNotFound":
        what = "the repository has no such revision"
        return FetchError(what, found=found, where=page, hint="leave @REVISION out for main, or look on that page")
    if code == "EntryNotFound":
        what = "the server lists a file that it does not have"
        return FetchError(what, found=found, where=page, hint="ask again with --update: the repository may be changing")
    if status in (401, 404):
        return FetchError(
            "there is no such model, or it is private", found=found, where=page,
            hint="check the owner and the name; for a private one say who you are: HF_TOKEN=…, or `hf auth login`",
        )  # fmt: skip
    if status == 403:
        return FetchError(
            "the server refuses to give this model", found=found, where=page,
            hint="the token may lack the right to read it: HF_TOKEN=…, or `hf auth login`",
        )  # fmt: skip
    if status == 429:
        wait = headers.get("retry-after", "")
        found = f"{found}; it asks to wait {wait} s" if wait.isdigit() else found
        what = "the server takes no more requests for now"
        return BrokenOffError(what, found=found, where=page, hint="wait a little, then give the same command again")
    if status >= 500 or status == 408:
        what = "the server is in trouble"
        return BrokenOffError(what, found=found, where=page, hint="wait a little, then give the same command again")
    return FetchError("the server answers something else than a file", found=found, where=page)
