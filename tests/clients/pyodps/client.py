"""MaxCompute's Python client, as a process that the suite `clients` talks to.

Reads one command a line from standard input and writes one answer a line to standard output, both
JSON. It does what a user of PyODPS would do, and decides nothing: expectations stand in Rust.
Values are written in one form that all clients share (`to_json`, `from_json`; the list is in
`tests/clients/value.rs`).
"""

import datetime
import decimal
import json
import os
import sys
import time
import traceback

os.environ["TZ"] = "UTC"
time.tzset()

import pandas
from odps import ODPS, options, types
from odps.compat import Monthdelta
from odps.errors import BaseODPSError
from odps.models import TableSchema
from odps.tunnel import TableTunnel

options.allow_antique_date = True
options.retry_times = 0
options.struct_as_dict = False

EPOCH = datetime.datetime(1970, 1, 1)


def is_time(data_type):
    return data_type in (types.timestamp, types.timestamp_ntz)


def to_json(value, data_type):
    """A value that PyODPS read, in the common form."""
    if value is None:
        return None
    if isinstance(data_type, types.Array):
        return [to_json(v, data_type.value_type) for v in value]
    if isinstance(data_type, types.Map):
        pairs = [
            [to_json(k, data_type.key_type), to_json(v, data_type.value_type)]
            for k, v in value.items()
        ]
        return sorted(pairs, key=lambda pair: str(pair[0]))
    if isinstance(data_type, types.Struct):
        return [to_json(v, t) for v, t in zip(value, data_type.field_types.values())]
    if data_type == types.boolean:
        return "true" if value else "false"
    if data_type == types.json:
        return json.dumps(value, separators=(",", ":"), sort_keys=True)
    if data_type == types.binary:
        return bytes(value).hex()
    if data_type == types.date:
        return value.isoformat()
    if data_type == types.datetime:
        return str(round((value - EPOCH).total_seconds() * 1000))
    if is_time(data_type):
        return str(pandas.Timestamp(value).value)
    if data_type == types.interval_day_time:
        return str(pandas.Timedelta(value).value)
    if data_type == types.interval_year_month:
        return str(value.total_months())
    if isinstance(data_type, types.Decimal):
        return format(value, "f")
    if data_type in (types.float_, types.double):
        return repr(float(value))
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return str(value)


def from_json(value, data_type):
    """A value of the common form, as a user of PyODPS would have it."""
    if value is None:
        return None
    if isinstance(data_type, types.Array):
        return [from_json(v, data_type.value_type) for v in value]
    if isinstance(data_type, types.Map):
        return {
            from_json(k, data_type.key_type): from_json(v, data_type.value_type) for k, v in value
        }
    if isinstance(data_type, types.Struct):
        fields = data_type.field_types.values()
        return data_type.namedtuple_type(*[from_json(v, t) for v, t in zip(value, fields)])
    if data_type == types.boolean:
        return value == "true"
    if data_type == types.json:
        return json.loads(value)
    if data_type == types.binary:
        return bytes.fromhex(value)
    if data_type == types.date:
        return datetime.date.fromisoformat(value)
    if data_type == types.datetime:
        return EPOCH + datetime.timedelta(milliseconds=int(value))
    if is_time(data_type):
        return pandas.Timestamp(int(value))
    if data_type == types.interval_day_time:
        return pandas.Timedelta(int(value), unit="ns")
    if data_type == types.interval_year_month:
        return Monthdelta(int(value))
    if isinstance(data_type, types.Decimal):
        return decimal.Decimal(value)
    if data_type in (types.float_, types.double):
        return float(value)
    if data_type in (types.tinyint, types.smallint, types.int_, types.bigint):
        return int(value)
    return value


def columns_of(schema):
    return [{"name": c.name, "type": str(c.type).lower()} for c in schema.columns]


def rows_of(reader, schema):
    records = list(reader)
    kinds = [c.type for c in schema.columns]
    return [[to_json(v, kinds[i]) for i, v in enumerate(r.values)] for r in records]


class Client:
    def __init__(self, endpoint, project):
        self.odps = ODPS("local", "local", project, endpoint=endpoint)

    def table(self, command):
        return self.odps.get_table(command["table"])

    def create_table(self, command):
        columns = [types.Column(c["name"], c["type"], nullable=c["nullable"])
                   for c in command["columns"]]
        partitions = [types.Partition(c["name"], c["type"]) for c in command["partitions"]]
        self.odps.create_table(
            command["table"],
            TableSchema(columns=columns, partitions=partitions or None),
            transactional=True,
            primary_key=command["key"],
            table_properties={"write.bucket.num": str(command["buckets"])},
            if_not_exists=command.get("if_not_exists", False),
        )

    def sql(self, command):
        self.odps.execute_sql(command["text"])

    def select(self, command):
        instance = self.odps.execute_sql(command["text"])
        with instance.open_reader(tunnel=True) as reader:
            schema = reader.schema
            return {"columns": columns_of(schema), "rows": rows_of(reader, schema)}

    def select_text(self, command):
        instance = self.odps.execute_sql(command["text"])
        with instance.open_reader(tunnel=False, limit=True) as reader:
            return {"text": reader.raw}

    def select_range(self, command):
        instance = self.odps.execute_sql(command["text"])
        with instance.open_reader(tunnel=True) as reader:
            start, count = command["start"], command["count"]
            rows = list(reader[start : start + count])
            kinds = [c.type for c in reader.schema.columns]
            rows = [[to_json(v, kinds[i]) for i, v in enumerate(r.values)] for r in rows]
            return {"count": reader.count, "rows": rows}

    def select_pandas(self, command):
        frame = self.odps.execute_sql(command["text"]).open_reader(tunnel=True).to_pandas()
        return {"columns": list(frame.columns), "rows": frame.astype(str).values.tolist()}

    def read(self, command):
        table = self.table(command)
        schema = table.table_schema
        kinds = [c.type for c in schema.columns]
        partition = command.get("partition")
        wanted = [c.name for c in schema.simple_columns]
        records = self.odps.read_table(command["table"], partition=partition)
        rows = [
            [to_json(r[name], kinds[i]) for i, name in enumerate(wanted)] for r in records
        ]
        return {"rows": rows}

    def upsert(self, command):
        table = self.table(command)
        tunnel = TableTunnel(self.odps)
        session = tunnel.create_upsert_session(table, partition_spec=command.get("partition"))
        kinds = {c.name: c.type for c in table.table_schema.simple_columns}
        stream = session.open_upsert_stream(compress=command.get("compress", False))
        for row in command["rows"]:
            record = session.new_record()
            for name, value in row["values"].items():
                record[name] = from_json(value, kinds[name])
            (stream.delete if row["delete"] else stream.upsert)(record)
        stream.flush()
        end = command["end"]
        if end == "commit":
            stream.close()
            session.commit()
        elif end == "abort":
            session.abort()
        session.reload()
        return {"session": session.id, "status": session.status.value.lower()}

    def resume(self, command):
        session = TableTunnel(self.odps).create_upsert_session(
            self.table(command), partition_spec=command.get("partition"),
            upsert_id=command["session"])
        before = session.status.value.lower()
        if command["end"] == "commit":
            session.commit()
        session.reload()
        return {"before": before, "status": session.status.value.lower()}

    def write_table(self, command):
        """As most users write: `open_writer` sees by itself that the table takes upserts."""
        table = self.table(command)
        columns = table.table_schema.simple_columns
        with table.open_writer(partition=command.get("partition")) as writer:
            for row in command["rows"]:
                values = [from_json(row["values"].get(c.name), c.type) for c in columns]
                (writer.delete if row["delete"] else writer.write)(values)

    def describe(self, command):
        table = self.table(command)
        schema = table.table_schema
        return {
            "columns": [
                {"name": c.name, "type": str(c.type).lower(), "nullable": c.nullable}
                for c in schema.simple_columns
            ],
            "partitions": [c.name for c in schema.partitions],
            "key": table.primary_key,
            "transactional": table.is_transactional,
            "comment": table.comment or "",
        }

    def tables(self, command):
        return {"names": [t.name for t in self.odps.list_tables(prefix=command.get("prefix"))]}

    def table_exists(self, command):
        return {"exists": self.odps.exist_table(command["table"])}

    def drop_table(self, command):
        self.odps.delete_table(command["table"], if_exists=command.get("if_exists", False))

    def truncate(self, command):
        self.table(command).truncate(partition_spec=command.get("partition"))

    def add_partition(self, command):
        self.table(command).create_partition(command["partition"], if_not_exists=True)

    def partitions(self, command):
        found = self.table(command).iterate_partitions(command.get("partition"))
        return {"names": [p.name for p in found]}

    def partition_exists(self, command):
        return {"exists": self.table(command).exist_partition(command["partition"])}

    def add_columns(self, command):
        columns = [types.Column(c["name"], c["type"]) for c in command["columns"]]
        self.table(command).add_columns(columns)

    def stop(self, command):
        instance = self.odps.run_sql(command["text"])
        running = instance.is_running()
        instance.stop()
        statuses = instance.get_task_statuses()
        return {
            "running": running,
            "terminated": instance.is_terminated(),
            "status": [t.status.value for t in statuses.values()],
        }

    def instance(self, command):
        """Everything that users ask of an instance besides its rows."""
        instance = self.odps.execute_sql(command["text"])
        return {
            "source": instance.get_sql_query(),
            "status": instance.status.value,
            "names": instance.get_task_names(),
            "listed": instance.id in [i.id for i in self.odps.list_instances()],
            "logview": instance.get_logview_address(use_legacy=True),
        }


def main():
    client = Client(sys.argv[1], sys.argv[2])
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(client, command["do"])(command) or {}
        except BaseODPSError as error:
            answer = {"error": {"kind": type(error).__name__, "code": error.code or "",
                                "message": str(error)}}
        except Exception as error:
            answer = {"error": {"kind": type(error).__name__, "code": "",
                                "message": str(error) + "\n" + traceback.format_exc()}}
        print(json.dumps(answer), flush=True)


main()
