"""Personal data that Presidio finds, beside what `recognizers` know by themselves.

Presidio (MIT) is an extra, `tunesmith[presidio]`. Its recognisers of patterns with their check
digits and their context work on spaCy's tokens; names of persons and places take a pipeline with
entities, which is a package of its own (`en_core_web_lg`) that somebody installs. Nothing is
fetched.
"""

import importlib.util
import logging
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from pydantic.alias_generators import to_camel

from tunesmith_api.finetunejob.cleaning import PersonalData, Presidio
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.cleaning.recognizers import Span

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine
    from spacy.language import Language

_FIELD: Final = "spec.dataset.cleaning.personalData.presidio"
_PACKAGES: Final = ("presidio_analyzer", "spacy")


def require_presidio(personal: PersonalData) -> None:
    """Return if Presidio is not asked, or is here with recognisers for what the job asks for.

    Raises:
        BadInputError: it is not, or the pipeline is not, or an entity has no recogniser.
    """
    if personal.presidio is not None and personal.policy != "keep":
        _analyzer(personal.presidio.model_dump_json())


def spans_of_presidio(text: str, settings: Presidio) -> list[Span]:
    """What Presidio is sure enough of; where two overlap, the surer one.

    Raises:
        BadInputError: as `require_presidio`.
    """
    found = _analyzer(settings.model_dump_json()).analyze(
        text,
        language=settings.language,
        entities=settings.entities,
        score_threshold=settings.min_score,
    )
    taken: list[Span] = []
    for result in sorted(found, key=lambda result: (-result.score, result.start)):
        kind = to_camel(result.entity_type.lower())
        if all(result.end <= other.start or other.end <= result.start for other in taken):
            taken.append(Span(result.start, result.end, kind))
    return taken


@lru_cache(maxsize=1)
def _analyzer(settings_as_json: str) -> "AnalyzerEngine":
    """The engine of some settings, which takes a second to build."""
    settings = Presidio.model_validate_json(settings_as_json)
    if any(importlib.util.find_spec(package) is None for package in _PACKAGES):
        raise BadInputError(
            Reason.ENVIRONMENT_MISSING,
            f"{_FIELD} needs presidio-analyzer, which is not installed beside {sys.executable}; "
            "run pip install 'tunesmith[presidio]' there, or leave presidio out.",
        )
    engine = _engine(settings, _pipeline(settings))
    supported = set(engine.get_supported_entities(settings.language))
    missing = sorted(set(settings.entities) - supported)
    if missing:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"{_FIELD}.entities: given {', '.join(missing)}, which Presidio finds in no text of "
            f"the language {settings.language}{'' if settings.pipeline else ' without a pipeline'}"
            f"; it knows {', '.join(sorted(supported))}; take some of these, or set pipeline to "
            "an installed one that finds them.",
        )
    return engine


def _pipeline(settings: Presidio) -> "Language":
    import spacy

    name = settings.pipeline
    if name is not None and not spacy.util.is_package(name):
        raise BadInputError(
            Reason.ENVIRONMENT_MISSING,
            f"{_FIELD}.pipeline: given {name}, which is no spaCy pipeline installed beside "
            f"{sys.executable}; install its package there, or leave pipeline out.",
        )
    try:
        pipeline = spacy.load(name) if name is not None else _blank(settings.language)
    except (ImportError, OSError, ValueError) as error:
        # Some languages need a tokenizer of their own; a pipeline may be of another spaCy.
        raise BadInputError(
            Reason.ENVIRONMENT_MISSING,
            f"{_FIELD}: spaCy cannot load {name or settings.language}: {error}",
        ) from error
    # Its bound is for what entities and parsers hold in memory; a row is what it is.
    pipeline.max_length = sys.maxsize
    return pipeline


def _blank(language: str) -> "Language":
    """A tokenizer whose lemmas are the words in lower case, which tell Presidio the context."""
    import spacy
    from spacy.language import Language
    from spacy.tokens import Doc

    @Language.component("tunesmith_lower_case_lemmas")
    def lower_case(doc: Doc) -> Doc:
        for token in doc:
            token.lemma_ = token.lower_
        return doc

    pipeline = spacy.blank(language)
    pipeline.add_pipe("tunesmith_lower_case_lemmas")
    return pipeline


def _engine(settings: Presidio, pipeline: "Language") -> "AnalyzerEngine":
    import tldextract
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    language = settings.language

    class Loaded(SpacyNlpEngine):
        """A pipeline that is here; Presidio's own `load` downloads what is not."""

        def load(self) -> None:
            self.nlp: dict[str, Any] = {language: pipeline}

    # NB: addresses are judged by a list of suffixes, which it would fetch from the network.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    # It warns once for each recogniser of another language.
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    engine = Loaded([{"lang_code": language, "model_name": settings.pipeline or "blank"}])
    engine.load()
    registry = RecognizerRegistry(supported_languages=[language])
    registry.load_predefined_recognizers(languages=[language], nlp_engine=engine)
    if settings.pipeline is None:
        # It says that it finds persons, and without a pipeline finds none.
        registry.remove_recognizer("SpacyRecognizer", language)
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])
