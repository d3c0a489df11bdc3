import com.aliyun.odps.Column;
import com.aliyun.odps.Instance;
import com.aliyun.odps.Odps;
import com.aliyun.odps.OdpsException;
import com.aliyun.odps.Partition;
import com.aliyun.odps.PartitionSpec;
import com.aliyun.odps.Table;
import com.aliyun.odps.TableSchema;
import com.aliyun.odps.account.AliyunAccount;
import com.aliyun.odps.data.Record;
import com.aliyun.odps.data.RecordReader;
import com.aliyun.odps.task.SQLTask;
import com.aliyun.odps.tunnel.InstanceTunnel;
import com.aliyun.odps.tunnel.TableTunnel;
import com.aliyun.odps.tunnel.TunnelException;
import com.aliyun.odps.tunnel.io.CompressOption;
import com.aliyun.odps.tunnel.streams.UpsertStream;
import com.aliyun.odps.type.TypeInfo;
import com.aliyun.odps.type.TypeInfoParser;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * MaxCompute's Java SDK, as a process that the suite `clients` talks to.
 *
 * <p>Reads one command a line from standard input and writes one answer a line to standard output,
 * both JSON. It does what a user of the SDK would do, and decides nothing: expectations stand in
 * Rust. Values are written in one form that all clients share (see {@link Values}).
 */
public final class Client {
  private static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
  private final Odps odps;

  private Client(String endpoint, String project) {
    odps = new Odps(new AliyunAccount("local", "local"));
    odps.setEndpoint(endpoint);
    odps.setDefaultProject(project);
  }

  public static void main(String[] arguments) throws Exception {
    // Whatever a library prints must not stand among the answers.
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    System.setOut(System.err);
    Client client = new Client(arguments[0], arguments[1]);
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      JsonObject command = JsonParser.parseString(line).getAsJsonObject();
      JsonObject answer;
      try {
        answer = client.carryOut(command);
      } catch (Throwable error) {
        answer = new JsonObject();
        answer.add("error", described(error));
      }
      out.println(GSON.toJson(answer));
    }
    System.exit(0);
  }

  private static JsonObject described(Throwable error) {
    JsonObject described = new JsonObject();
    described.addProperty("kind", error.getClass().getSimpleName());
    String code = "";
    for (Throwable cause = error; cause != null && code.isEmpty(); cause = cause.getCause()) {
      if (cause instanceof TunnelException) {
        code = ((TunnelException) cause).getErrorCode();
      } else if (cause instanceof OdpsException) {
        code = ((OdpsException) cause).getErrorCode();
      }
      code = code == null ? "" : code;
    }
    described.addProperty("code", code);
    described.addProperty("message", String.valueOf(error.getMessage()));
    return described;
  }

  private JsonObject carryOut(JsonObject command) throws Exception {
    JsonObject answer = new JsonObject();
    switch (text(command, "do")) {
      case "create_table" -> createTable(command);
      case "sql" -> run(text(command, "text")).waitForSuccess();
      case "select" -> select(command, answer);
      case "select_text" -> selectText(command, answer);
      case "read" -> read(command, answer);
      case "upsert" -> upsert(command, answer);
      case "resume" -> resume(command, answer);
      case "describe" -> describe(command, answer);
      case "tables" -> tables(command, answer);
      case "table_exists" ->
          answer.addProperty("exists", odps.tables().exists(text(command, "table")));
      case "drop_table" -> odps.tables().delete(text(command, "table"), has(command, "if_exists"));
      case "truncate" -> table(command).truncate();
      case "add_partition" -> table(command).createPartition(spec(command), true);
      case "partitions" -> partitions(command, answer);
      case "partition_exists" ->
          answer.addProperty("exists", table(command).hasPartition(spec(command)));
      case "add_columns" -> addColumns(command);
      case "stop" -> stop(command, answer);
      case "instance" -> instance(command, answer);
      default -> throw new IllegalArgumentException("no command " + text(command, "do"));
    }
    return answer;
  }

  private Instance run(String sql) throws OdpsException {
    return SQLTask.run(odps, sql.endsWith(";") ? sql : sql + ";");
  }

  private void createTable(JsonObject command) throws OdpsException {
    TableSchema schema = new TableSchema();
    for (Column column : columns(command, "columns")) {
      schema.addColumn(column);
    }
    for (Column column : columns(command, "partitions")) {
      schema.addPartitionColumn(column);
    }
    List<String> key = new ArrayList<>();
    command.getAsJsonArray("key").forEach(name -> key.add(name.getAsString()));
    odps.tables()
        .newTableCreator(text(command, "table"), schema)
        .deltaTable()
        .withPrimaryKeys(key)
        .withDeltaTableBucketNum(command.get("buckets").getAsInt())
        .create();
  }

  private static List<Column> columns(JsonObject command, String name) {
    List<Column> columns = new ArrayList<>();
    for (JsonElement element : command.getAsJsonArray(name)) {
      JsonObject column = element.getAsJsonObject();
      TypeInfo type = TypeInfoParser.getTypeInfoFromTypeString(text(column, "type"));
      Column.ColumnBuilder builder = Column.newBuilder(text(column, "name"), type);
      if (column.has("nullable") && !column.get("nullable").getAsBoolean()) {
        builder = builder.notNull();
      }
      columns.add(builder.build());
    }
    return columns;
  }

  private void select(JsonObject command, JsonObject answer) throws Exception {
    Instance instance = run(text(command, "text"));
    instance.waitForSuccess();
    InstanceTunnel.DownloadSession session =
        new InstanceTunnel(odps).createDownloadSession(odps.getDefaultProject(), instance.getId());
    TableSchema schema = session.getSchema();
    long start = command.has("start") ? command.get("start").getAsLong() : 0;
    long count =
        command.has("count") ? command.get("count").getAsLong() : session.getRecordCount();
    JsonArray rows = new JsonArray();
    if (count > 0) {
      try (RecordReader reader = session.openRecordReader(start, count)) {
        readAll(reader, schema, rows);
      }
    }
    JsonArray columns = new JsonArray();
    for (Column column : schema.getColumns()) {
      JsonObject described = new JsonObject();
      described.addProperty("name", column.getName());
      described.addProperty("type", column.getTypeInfo().getTypeName().toLowerCase());
      columns.add(described);
    }
    answer.add("columns", columns);
    answer.add("rows", rows);
    answer.addProperty("count", session.getRecordCount());
  }

  private void selectText(JsonObject command, JsonObject answer) throws Exception {
    Instance instance = run(text(command, "text"));
    instance.waitForSuccess();
    JsonArray rows = new JsonArray();
    for (Record record : SQLTask.getResult(instance)) {
      JsonArray row = new JsonArray();
      for (int i = 0; i < record.getColumnCount(); i++) {
        Object value = record.get(i);
        row.add(value == null ? JsonNull.INSTANCE : JsonParser.parseString(GSON.toJson(
            value instanceof byte[] bytes ? new String(bytes, StandardCharsets.UTF_8)
                : value.toString())));
      }
      rows.add(row);
    }
    answer.add("rows", rows);
  }

  private void read(JsonObject command, JsonObject answer) throws Exception {
    TableTunnel tunnel = new TableTunnel(odps);
    String project = odps.getDefaultProject();
    TableTunnel.DownloadSession session =
        has(command, "partition")
            ? tunnel.createDownloadSession(project, text(command, "table"), spec(command))
            : tunnel.createDownloadSession(project, text(command, "table"));
    List<Column> wanted = null;
    TableSchema schema = session.getSchema();
    if (has(command, "columns")) {
      wanted = new ArrayList<>();
      TableSchema picked = new TableSchema();
      for (JsonElement name : command.getAsJsonArray("columns")) {
        wanted.add(schema.getColumn(name.getAsString()));
        picked.addColumn(schema.getColumn(name.getAsString()));
      }
      schema = picked;
    }
    JsonArray rows = new JsonArray();
    long start = command.has("start") ? command.get("start").getAsLong() : 0;
    long count =
        command.has("count") ? command.get("count").getAsLong() : session.getRecordCount();
    if (count > 0) {
      CompressOption raw = new CompressOption(CompressOption.CompressAlgorithm.ODPS_RAW, 0, 0);
      try (RecordReader reader = session.openRecordReader(start, count, raw, wanted)) {
        readAll(reader, schema, rows);
      }
    }
    answer.addProperty("count", session.getRecordCount());
    answer.addProperty("status", session.getStatus().toString().toLowerCase());
    answer.add("rows", rows);
  }

  private static void readAll(RecordReader reader, TableSchema schema, JsonArray rows)
      throws Exception {
    for (Record record = reader.read(); record != null; record = reader.read()) {
      JsonArray row = new JsonArray();
      for (int i = 0; i < record.getColumnCount(); i++) {
        row.add(Values.toJson(record.get(i), schema.getColumn(i).getTypeInfo()));
      }
      rows.add(row);
    }
  }

  private TableTunnel.UpsertSession.Builder session(JsonObject command) {
    TableTunnel.UpsertSession.Builder builder =
        new TableTunnel(odps)
            .buildUpsertSession(odps.getDefaultProject(), text(command, "table"))
            .setNetworkThreadNum(1)
            .setConcurrentNum(4);
    return has(command, "partition") ? builder.setPartitionSpec(spec(command)) : builder;
  }

  private void upsert(JsonObject command, JsonObject answer) throws Exception {
    TableTunnel.UpsertSession session = session(command).build();
    try {
      TableSchema schema = session.getSchema();
      UpsertStream.Builder builder = session.buildUpsertStream();
      if (has(command, "compress")) {
        CompressOption.CompressAlgorithm algorithm =
            CompressOption.CompressAlgorithm.valueOf(text(command, "compress"));
        builder.setCompressOption(new CompressOption(algorithm, 1, 0));
      }
      UpsertStream stream = builder.build();
      for (JsonElement element : command.getAsJsonArray("rows")) {
        JsonObject row = element.getAsJsonObject();
        Record record = session.newRecord();
        for (Map.Entry<String, JsonElement> value : row.getAsJsonObject("values").entrySet()) {
          TypeInfo type = schema.getColumn(value.getKey()).getTypeInfo();
          record.set(value.getKey(), Values.fromJson(value.getValue(), type));
        }
        if (row.get("delete").getAsBoolean()) {
          stream.delete(record);
        } else {
          stream.upsert(record);
        }
      }
      stream.flush();
      stream.close();
      end(session, text(command, "end"));
      answer.addProperty("session", session.getId());
      answer.addProperty("status", session.getStatus().toLowerCase());
    } finally {
      session.close();
    }
  }

  private void resume(JsonObject command, JsonObject answer) throws Exception {
    TableTunnel.UpsertSession session =
        session(command).setUpsertId(text(command, "session")).build();
    try {
      answer.addProperty("before", session.getStatus().toLowerCase());
      end(session, text(command, "end"));
      answer.addProperty("status", session.getStatus().toLowerCase());
    } finally {
      session.close();
    }
  }

  private static void end(TableTunnel.UpsertSession session, String end) throws Exception {
    switch (end) {
      case "commit" -> session.commit(false);
      case "abort" -> session.abort();
      default -> { }
    }
  }

  private void describe(JsonObject command, JsonObject answer) throws Exception {
    Table table = table(command);
    table.reload();
    JsonArray columns = new JsonArray();
    for (Column column : table.getSchema().getColumns()) {
      JsonObject described = new JsonObject();
      described.addProperty("name", column.getName());
      described.addProperty("type", column.getTypeInfo().getTypeName().toLowerCase());
      described.addProperty("nullable", column.isNullable());
      columns.add(described);
    }
    answer.add("columns", columns);
    JsonArray partitions = new JsonArray();
    table.getSchema().getPartitionColumns().forEach(c -> partitions.add(c.getName()));
    answer.add("partitions", partitions);
    answer.add("key", GSON.toJsonTree(table.getPrimaryKey()));
    answer.addProperty("transactional", table.isTransactional());
    answer.addProperty("delta", table.isDeltaTable());
    answer.addProperty("buckets", table.getClusterInfo().getBucketNum());
    answer.addProperty("project", table.getProject());
  }

  private void tables(JsonObject command, JsonObject answer) throws Exception {
    com.aliyun.odps.TableFilter filter = new com.aliyun.odps.TableFilter();
    filter.setName(text(command, "prefix"));
    JsonArray names = new JsonArray();
    for (Table table : odps.tables().iterable(filter)) {
      names.add(table.getName());
    }
    answer.add("names", names);
  }

  private void partitions(JsonObject command, JsonObject answer) throws Exception {
    JsonArray names = new JsonArray();
    for (Partition partition : table(command).getPartitions()) {
      names.add(partition.getPartitionSpec().toString());
    }
    answer.add("names", names);
    JsonArray specs = new JsonArray();
    for (PartitionSpec spec : table(command).getPartitionSpecs()) {
      specs.add(spec.toString());
    }
    answer.add("specs", specs);
  }

  private void addColumns(JsonObject command) throws Exception {
    table(command).addColumns(columns(command, "columns"), false);
  }

  private void stop(JsonObject command, JsonObject answer) throws Exception {
    Instance instance = run(text(command, "text"));
    answer.addProperty("running", instance.getStatus() == Instance.Status.RUNNING);
    instance.stop();
    answer.addProperty("terminated", instance.isTerminated());
    JsonArray statuses = new JsonArray();
    instance.getTaskStatus().values().forEach(s -> statuses.add(s.getStatus().toString()));
    answer.add("status", statuses);
  }

  private void instance(JsonObject command, JsonObject answer) throws Exception {
    Instance instance = run(text(command, "text"));
    instance.waitForSuccess();
    answer.addProperty("status", instance.getStatus().toString());
    answer.add("names", GSON.toJsonTree(instance.getTaskNames()));
    answer.addProperty("exists", odps.instances().exists(instance.getId()));
    answer.addProperty("source", instance.getTasks().get(0).getName());
    answer.addProperty("summary", instance.getTaskSummary("AnonymousSQLTask") != null);
    answer.addProperty("logview", odps.logview().generateLogView(instance, 24));
    Map<String, String> results = new HashMap<>(instance.getTaskResults());
    answer.add("results", GSON.toJsonTree(results));
  }

  private Table table(JsonObject command) {
    return odps.tables().get(text(command, "table"));
  }

  private static PartitionSpec spec(JsonObject command) {
    return new PartitionSpec(text(command, "partition"));
  }

  private static boolean has(JsonObject command, String name) {
    return command.has(name) && !command.get(name).isJsonNull();
  }

  private static String text(JsonObject command, String name) {
    return command.get(name).getAsString();
  }
}
