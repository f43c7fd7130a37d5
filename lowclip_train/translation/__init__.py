"""Synthetic captions by machine translation: pairs in, the same pairs and their translations out.

The way through: `translate.py` is the spine; `engines.py` runs a model (`coded_tokenizer.py` and `language_codes.py`
tell it the languages), `batches.py` says what is translated together, `cache.py` keeps what a kill would lose,
`guards.py` and `similarity.py` judge a translation, `report.py` tells.
"""
