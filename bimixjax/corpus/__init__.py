"""Corpora: documents read from files, tokenized into memory-mapped stores.

- `documents`: text, JSON lines and Parquet. `tokenization`: documents to tokens, without duplicates, in two splits.
- `writer`, `store`: a store appears whole or not at all, and is read memory-mapped. `layout`: its files.
- `counting`: tokens and adjacent pairs. `entropy`: entropies, and the mixtures that follow from them.
- `local`: a default corpus that needs no download.

    >>> from bimixjax.corpus import ByteTokenizer
    >>> ByteTokenizer().encode(["hi"])[0].tolist()
    [104, 105]
"""

from bimixjax.corpus.counting import TokenCounts as TokenCounts
from bimixjax.corpus.counting import count_tokens as count_tokens
from bimixjax.corpus.documents import Document as Document
from bimixjax.corpus.documents import read_documents as read_documents
from bimixjax.corpus.layout import Shard as Shard
from bimixjax.corpus.local import local_corpus as local_corpus
from bimixjax.corpus.local import local_documents as local_documents
from bimixjax.corpus.store import TokenStore as TokenStore
from bimixjax.corpus.tokenization import ByteTokenizer as ByteTokenizer
from bimixjax.corpus.tokenization import FileTokenizer as FileTokenizer
from bimixjax.corpus.tokenization import Tokenizer as Tokenizer
from bimixjax.corpus.tokenization import split_of as split_of
from bimixjax.corpus.tokenization import tokenize as tokenize
from bimixjax.corpus.writer import Writer as Writer
from bimixjax.corpus.writer import writing as writing
