import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;

/**
 * MaxCompute's JDBC driver, as a process that the suite `clients` talks to.
 *
 * <p>Reads one command a line from standard input and writes one answer a line to standard output,
 * both JSON. It does what a user of the driver would do, and decides nothing: expectations stand in
 * Rust. Values are what `getString` gives.
 */
public final class Client {
  private static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
  private final String url;
  private final Connection connection;

  private Client(String endpoint, String project) throws Exception {
    Class.forName("com.aliyun.odps.jdbc.OdpsDriver");
    url = "jdbc:odps:" + endpoint + "?project=" + project + "&accessId=local&accessKey=local";
    connection = DriverManager.getConnection(url, new Properties());
  }

  public static void main(String[] arguments) throws Exception {
    // Whatever a library prints must not stand among the answers.
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    System.setOut(System.err);
    Client client = new Client(arguments[0], arguments[1]);
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      JsonObject command = new JsonParser().parse(line).getAsJsonObject();
      JsonObject answer;
      try {
        answer = client.carryOut(command);
      } catch (Throwable error) {
        JsonObject described = new JsonObject();
        described.addProperty("kind", error.getClass().getSimpleName());
        described.addProperty("code", "");
        described.addProperty("message", String.valueOf(error.getMessage()));
        answer = new JsonObject();
        answer.add("error", described);
      }
      out.println(GSON.toJson(answer));
    }
    System.exit(0);
  }

  private JsonObject carryOut(JsonObject command) throws SQLException {
    JsonObject answer = new JsonObject();
    String table = command.has("table") ? command.get("table").getAsString() : null;
    switch (command.get("do").getAsString()) {
      case "sql" -> {
        try (Statement statement = connection.createStatement()) {
          statement.execute(command.get("text").getAsString());
        }
      }
      case "update" -> {
        try (Statement statement = connection.createStatement()) {
          answer.addProperty(
              "count", statement.executeUpdate(command.get("text").getAsString()));
        }
      }
      case "select" -> select(connection, command, answer);
      // The driver asks for an interactive session first, and runs a plain job without one.
      case "select_interactive" -> {
        String interactive = url + "&interactiveMode=true&alwaysFallback=true";
        try (Connection other = DriverManager.getConnection(interactive, new Properties())) {
          select(other, command, answer);
        }
      }
      case "tables" -> {
        try (ResultSet found =
            connection.getMetaData().getTables(null, null, command.get("prefix").getAsString()
                + "%", null)) {
          answer.add("names", column(found, "TABLE_NAME"));
        }
      }
      case "describe" -> describe(table, answer);
      default -> throw new IllegalArgumentException("no command " + command.get("do"));
    }
    return answer;
  }

  private static void select(Connection on, JsonObject command, JsonObject answer)
      throws SQLException {
    try (Statement statement = on.createStatement();
        ResultSet result = statement.executeQuery(command.get("text").getAsString())) {
      ResultSetMetaData meta = result.getMetaData();
      JsonArray columns = new JsonArray();
      for (int i = 1; i <= meta.getColumnCount(); i++) {
        JsonObject column = new JsonObject();
        column.addProperty("name", meta.getColumnName(i));
        column.addProperty("type", meta.getColumnTypeName(i).toLowerCase());
        columns.add(column);
      }
      JsonArray rows = new JsonArray();
      while (result.next()) {
        JsonArray row = new JsonArray();
        for (int i = 1; i <= meta.getColumnCount(); i++) {
          String value = result.getString(i);
          row.add(value == null ? JsonNull.INSTANCE : new JsonPrimitive(value));
        }
        rows.add(row);
      }
      answer.add("columns", columns);
      answer.add("rows", rows);
    }
  }

  private void describe(String table, JsonObject answer) throws SQLException {
    JsonArray columns = new JsonArray();
    try (ResultSet found = connection.getMetaData().getColumns(null, null, table, null)) {
      while (found.next()) {
        JsonObject column = new JsonObject();
        column.addProperty("name", found.getString("COLUMN_NAME"));
        column.addProperty("type", found.getString("TYPE_NAME").toLowerCase());
        columns.add(column);
      }
    }
    answer.add("columns", columns);
  }

  private static JsonArray column(ResultSet found, String name) throws SQLException {
    JsonArray names = new JsonArray();
    while (found.next()) {
      names.add(new JsonPrimitive(found.getString(name)));
    }
    return names;
  }
}
