"""A campaign in the database: its document and its model."""

from __future__ import annotations

from pymongo.errors import DuplicateKeyError

from voltscreen.campaign.spec import CampaignSpec
from voltscreen.errors import CampaignError, SpecError
from voltscreen.model import read_card
from voltscreen.store import Store
from voltscreen.store.documents import CampaignDocument
from voltscreen.store.models import put_model


def register(store: Store, spec: CampaignSpec) -> CampaignDocument:
    """The campaign's document, written with its model when it is new.

    Raises:
        CampaignError: a campaign of that name has another spec or another model.
        ModelError: there is no such model.
        SpecError: an ion that the model does not predict.
    """
    model_id, card = read_card(spec.model)
    missing = [ion for ion in spec.ions if ion not in card.ions]
    if missing:
        raise SpecError(
            f"'ions': model {spec.model!r} does not predict {', '.join(missing)}; "
            f"it predicts {', '.join(card.ions)}"
        )
    known = store.campaigns.find_one({"_id": spec.name})
    if known is None:
        from voltscreen.model import whole_file  # torch

        data = whole_file(spec.model)
        put_model(store, model_id, card.name, card.ions, card.model_dump(mode="json"), data)
        document = CampaignDocument(
            id=spec.name, spec=spec.canonical(), spec_hash=spec.hash, model_id=model_id
        )
        try:
            store.campaigns.insert_one(document.to_mongo())
        except DuplicateKeyError:
            return register(store, spec)
        return document
    if reason := begun_otherwise(store, spec):
        raise CampaignError(
            f"{reason}: give the spec another name, or start anew with `voltscreen screen "
            f"--replace` or after `voltscreen campaign delete {spec.name}`"
        )
    return CampaignDocument.from_mongo(known)


def begun_otherwise(store: Store, spec: CampaignSpec) -> str | None:
    """Why the campaign of this name is not that of the spec; None when it is, or there is none."""
    known = store.campaigns.find_one({"_id": spec.name})
    if known is None:
        return None
    document = CampaignDocument.from_mongo(known)
    if document.spec_hash != spec.hash:
        return f"campaign {spec.name!r} exists with another spec"
    model_id, _ = read_card(spec.model)
    if document.model_id != model_id:
        return (
            f"campaign {spec.name!r} was made with model {document.model_id}, and "
            f"{spec.model!r} is now {model_id}"
        )
    return None
