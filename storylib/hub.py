"""Whether a base can be fetched from the Hugging Face Hub, asked before anything else is done."""

import json
import os
from collections.abc import Callable, MutableMapping
from functools import cache
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,  # httpx's, by whichever name the installed version of it goes
    RepositoryNotFoundError,
)

from storylib.errors import UserError
from storylib.files import DATA
from storylib.runtime import where

PATIENCE = 5  # seconds; the Hub's own calls try again for half a minute, with a warning each time
OPEN_BASE = "HuggingFaceTB/SmolLM2-1.7B"  # for those who have none to go to
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
STORES = {"colab": "the key symbol on the left", "kaggle": "Add-ons > Secrets"}
# Facts about published models, one file each: `repositories` of that shape, `open_copies` of the gated ones,
# `parameters` as published, `config` as transformers reads it.
SHIPPED = DATA / "architectures"


def ask_hub(base: str, endpoint: str | None = None) -> None:
    """One small request for the base's config, with no second try. Raises what huggingface_hub raises."""
    get_hf_file_metadata(hf_hub_url(base, "config.json", endpoint=endpoint), timeout=PATIENCE)


def check_access(base: str, ask: Callable[[str], None] = ask_hub, place: str | None = None) -> bool:
    """Whether the Hub may be asked for `base`: pass it on as `local_files_only=not check_access(base)`.

    False for a folder, and where the Hub says no or can't be reached but the cache has a copy. Raises UserError where
    there is none, naming what to do about a gated, unknown or unreachable model.
    """
    if Path(base).is_dir():
        return False
    place = place or where()
    use_secret(place)
    try:
        ask(base)
        return True
    except HFValidationError as error:
        raise UserError(f"{base!r} is neither a folder nor a name on huggingface.co such as {OPEN_BASE}") from error
    except (HTTPError, OSError) as error:
        if in_cache(base):
            return False
        raise UserError(refusal(base, error, place)) from error


def refusal(base: str, error: Exception, place: str) -> str:
    """What went wrong and what to do, in one line."""
    if isinstance(error, GatedRepoError):
        if get_token():
            login = f"the token in use has no leave yet: ask for it on https://huggingface.co/{base}"
        else:
            login = f"ask for leave on https://huggingface.co/{base}, then {give_token(place)}"
        return f"{base} is gated; {login}; or take the open {open_copy(base) or OPEN_BASE}"
    if isinstance(error, RepositoryNotFoundError):
        return f"no model {base} on huggingface.co, or a private one; check the name, or {give_token(place)}"
    if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
        return f"huggingface.co refuses the token for {base}; make a new one, then {give_token(place)}"
    network = "turn on Internet in the notebook's settings" if place == "kaggle" else "check the network"
    return (
        f"huggingface.co can't be reached for {base} ({type(error).__name__}) and no copy is on this machine; "
        f"{network}, or take a cpu recipe: its base is shipped"
    )


def give_token(place: str) -> str:
    store = STORES.get(place)
    return f"keep a token as the secret HF_TOKEN ({store})" if store else "run: hf auth login"


def in_cache(base: str) -> bool:
    """Whether an earlier download left the base's config and weights, as far as their first file tells."""
    found = [isinstance(try_to_load_from_cache(base, name), str) for name in ("config.json", *WEIGHTS)]
    return found[0] and any(found[1:])


def use_secret(place: str, environ: MutableMapping[str, str] = os.environ, read: Callable | None = None) -> None:
    """Hand a token from Colab's or Kaggle's secret store to every library, through HF_TOKEN; it is never shown.

    Without one, what HF_TOKEN or `hf auth login` left before stays in use.
    """
    token = (read or secret)(place)
    if token:
        environ["HF_TOKEN"] = token.strip()


@cache  # Colab asks the user for leave: once is enough
def secret(place: str, name: str = "HF_TOKEN") -> str | None:
    """What Colab's or Kaggle's secret store holds under `name`; None on other machines, and where it gives nothing."""
    try:
        if place == "colab":
            from google.colab import userdata

            return userdata.get(name)
        if place == "kaggle":
            from kaggle_secrets import UserSecretsClient

            return UserSecretsClient().get_secret(name)
    except Exception:  # each store has errors of its own for "no such secret" and "no leave to read it"
        pass
    return None


@cache
def shipped() -> tuple[dict, ...]:
    """The shipped facts, from the smallest model to the largest."""
    facts = [json.loads(path.read_text(encoding="utf-8")) for path in SHIPPED.glob("*.json")]
    return tuple(sorted(facts, key=lambda known: known["parameters"]))


def open_copy(base: str) -> str | None:
    """An ungated repository with the same weights, where a well-known one exists."""
    return next((known["open_copies"][base] for known in shipped() if base in known.get("open_copies", {})), None)
