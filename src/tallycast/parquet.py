"""Writes a Parquet file while it is being sent. Rows come as CSV from the database, which Arrow reads in no time."""

import pyarrow as pa
from pyarrow import csv
from pyarrow.parquet import ParquetWriter

from tallycast.cells import Block, Columns, Kind, Options, write_csv
from tallycast.sheets import Pipe

_GROUP_ROWS = 100_000
_GROUP_BYTES = 64_000_000
_REPEATED = pa.dictionary(pa.int32(), pa.string())
_TYPES = {Kind.COUNT: pa.int64(), Kind.MOMENT: pa.timestamp("ms", tz="UTC")}


class File:
    """The writer of one file; what is null is null, and texts are as they are."""

    def __init__(self, columns: Columns) -> None:
        self.line = write_csv(columns, Options(raw=True))
        self._schema = pa.schema(
            (column.name, _TYPES.get(column.kind, _REPEATED if column.repeats else pa.string()))
            for column in columns
        )
        self._pipe = Pipe()
        self._writer: ParquetWriter
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._bytes = 0

    def begin(self) -> bytes:
        self._writer = ParquetWriter(self._pipe, self._schema, compression="zstd")
        return self._pipe.take()

    def add(self, block: Block) -> bytes:
        if block.rows:
            self._waiting.append(self._parse(block.data))
            self._rows += block.rows
            self._bytes += len(block.data)
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._write_group()
        return self._pipe.take()

    def end(self) -> bytes:
        if self._waiting:
            self._write_group()
        self._writer.close()
        return self._pipe.take()

    def _parse(self, data: bytes) -> pa.Table:
        return csv.read_csv(
            pa.BufferReader(data),
            csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=self._schema.names),
            csv.ParseOptions(newlines_in_values=True),
            csv.ConvertOptions(column_types=self._schema, null_values=[""], strings_can_be_null=True),
        )

    def _write_group(self) -> None:
        self._writer.write_table(pa.concat_tables(self._waiting).unify_dictionaries(), self._rows)
        self._waiting.clear()
        self._rows = self._bytes = 0
