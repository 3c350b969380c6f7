"""Corpora: text of several domains, tokenized once into files that are read memory-mapped.

    files --documents--> texts --tokenization--> tokens --writer--> store --counting--> counts --entropy--> mixtures

- `documents`: texts from plain text, JSON lines and Parquet, streamed.
- `tokenization`: texts to tokens, without repeated texts, each source in one split.
- `writer`, `store`, `layout`: the token store: written whole or not at all, read memory-mapped, and its format.
- `counting`: exact counts of tokens and of adjacent pairs.
- `entropy`: entropies from counts or embeddings, and the mixtures r_i = exp(H_i) / sum_j exp(H_j).
- `local`: a default corpus from files that every installation has, so that nothing is downloaded.

Words: a *domain* is a named part of the corpus; a *source* is the file or record that a text comes from; a *split* is
training or validation; a *shard* is one split of one domain.

    >>> import tempfile
    >>> from bimixjax.corpus import TokenStore, count_tokens
    >>> from bimixjax.corpus.entropy import entropies, entropy_mixture
    >>> tokens = {"constant": ([0] * 8, [0]), "mixed": ([0, 1, 2, 3] * 2, [0])}
    >>> store = TokenStore.write(tempfile.mkdtemp() + "/corpus", tokens, vocab_size=4)
    >>> counts = [count_tokens(store.train(domain), vocab_size=4) for domain in store.domains]
    >>> entropy_mixture([entropies(each).shannon for each in counts]).round(3).tolist()
    [0.2, 0.8]
"""

from bimixjax.corpus.counting import TokenCounts as TokenCounts, count_tokens as count_tokens
from bimixjax.corpus.documents import Document as Document, read_documents as read_documents
from bimixjax.corpus.layout import Shard as Shard
from bimixjax.corpus.local import local_corpus as local_corpus, local_documents as local_documents
from bimixjax.corpus.store import TokenStore as TokenStore
from bimixjax.corpus.tokenization import (
    ByteTokenizer as ByteTokenizer,
    FileTokenizer as FileTokenizer,
    Tokenizer as Tokenizer,
    split_of as split_of,
    tokenize as tokenize,
)
from bimixjax.corpus.writer import Writer as Writer, writing as writing
