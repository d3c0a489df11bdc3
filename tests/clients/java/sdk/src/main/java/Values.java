import com.aliyun.odps.data.Binary;
import com.aliyun.odps.data.Char;
import com.aliyun.odps.data.IntervalDayTime;
import com.aliyun.odps.data.IntervalYearMonth;
import com.aliyun.odps.data.SimpleJsonValue;
import com.aliyun.odps.data.SimpleStruct;
import com.aliyun.odps.data.Struct;
import com.aliyun.odps.data.Varchar;
import com.aliyun.odps.type.ArrayTypeInfo;
import com.aliyun.odps.type.MapTypeInfo;
import com.aliyun.odps.type.StructTypeInfo;
import com.aliyun.odps.type.TypeInfo;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonPrimitive;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Values of the SDK in the form that all clients of the suite share, and back. */
final class Values {
  private static final BigInteger NANOS = BigInteger.valueOf(1_000_000_000);

  private Values() {}

  static JsonElement toJson(Object value, TypeInfo type) {
    if (value == null) {
      return JsonNull.INSTANCE;
    }
    return switch (type.getOdpsType()) {
      case ARRAY -> array((List<?>) value, ((ArrayTypeInfo) type).getElementTypeInfo());
      case MAP -> map((Map<?, ?>) value, (MapTypeInfo) type);
      case STRUCT -> struct((Struct) value, (StructTypeInfo) type);
      default -> new JsonPrimitive(text(value, type));
    };
  }

  private static JsonArray array(List<?> values, TypeInfo element) {
    JsonArray array = new JsonArray();
    values.forEach(value -> array.add(toJson(value, element)));
    return array;
  }

  private static JsonArray map(Map<?, ?> values, MapTypeInfo type) {
    List<JsonArray> pairs = new ArrayList<>();
    values.forEach(
        (key, value) -> {
          JsonArray pair = new JsonArray();
          pair.add(toJson(key, type.getKeyTypeInfo()));
          pair.add(toJson(value, type.getValueTypeInfo()));
          pairs.add(pair);
        });
    pairs.sort((a, b) -> a.get(0).toString().compareTo(b.get(0).toString()));
    JsonArray array = new JsonArray();
    pairs.forEach(array::add);
    return array;
  }

  private static JsonArray struct(Struct value, StructTypeInfo type) {
    JsonArray array = new JsonArray();
    for (int i = 0; i < type.getFieldCount(); i++) {
      array.add(toJson(value.getFieldValue(i), type.getFieldTypeInfos().get(i)));
    }
    return array;
  }

  private static String text(Object value, TypeInfo type) {
    return switch (type.getOdpsType()) {
      case BINARY -> HexFormat.of().formatHex(((Binary) value).data());
      case DECIMAL -> ((BigDecimal) value).toPlainString();
      case DATETIME -> String.valueOf(((ZonedDateTime) value).toInstant().toEpochMilli());
      case TIMESTAMP -> nanos((Instant) value);
      case TIMESTAMP_NTZ -> nanos(((LocalDateTime) value).toInstant(ZoneOffset.UTC));
      case INTERVAL_DAY_TIME -> {
        IntervalDayTime interval = (IntervalDayTime) value;
        yield nanos(interval.getTotalSeconds(), interval.getNanos());
      }
      case INTERVAL_YEAR_MONTH ->
          String.valueOf(((IntervalYearMonth) value).getTotalMonths());
      default ->
          value instanceof byte[] bytes
              ? new String(bytes, StandardCharsets.UTF_8)
              : value.toString();
    };
  }

  private static String nanos(Instant instant) {
    return nanos(instant.getEpochSecond(), instant.getNano());
  }

  private static String nanos(long seconds, int nanos) {
    return BigInteger.valueOf(seconds).multiply(NANOS).add(BigInteger.valueOf(nanos)).toString();
  }

  static Object fromJson(JsonElement json, TypeInfo type) {
    if (json.isJsonNull()) {
      return null;
    }
    return switch (type.getOdpsType()) {
      case ARRAY -> list(json.getAsJsonArray(), ((ArrayTypeInfo) type).getElementTypeInfo());
      case MAP -> {
        MapTypeInfo map = (MapTypeInfo) type;
        Map<Object, Object> values = new LinkedHashMap<>();
        for (JsonElement pair : json.getAsJsonArray()) {
          values.put(
              fromJson(pair.getAsJsonArray().get(0), map.getKeyTypeInfo()),
              fromJson(pair.getAsJsonArray().get(1), map.getValueTypeInfo()));
        }
        yield values;
      }
      case STRUCT -> {
        StructTypeInfo struct = (StructTypeInfo) type;
        List<Object> values = new ArrayList<>();
        for (int i = 0; i < struct.getFieldCount(); i++) {
          JsonElement field = json.getAsJsonArray().get(i);
          values.add(fromJson(field, struct.getFieldTypeInfos().get(i)));
        }
        yield new SimpleStruct(struct, values);
      }
      default -> fromText(json.getAsString(), type);
    };
  }

  private static List<Object> list(JsonArray array, TypeInfo element) {
    List<Object> values = new ArrayList<>();
    array.forEach(value -> values.add(fromJson(value, element)));
    return values;
  }

  private static Object fromText(String text, TypeInfo type) {
    return switch (type.getOdpsType()) {
      case BIGINT -> Long.valueOf(text);
      case INT -> Integer.valueOf(text);
      case SMALLINT -> Short.valueOf(text);
      case TINYINT -> Byte.valueOf(text);
      case BOOLEAN -> Boolean.valueOf(text);
      case FLOAT -> Float.valueOf(text);
      case DOUBLE -> Double.valueOf(text);
      case DECIMAL -> new BigDecimal(text);
      case VARCHAR -> new Varchar(text);
      case CHAR -> new Char(text);
      case BINARY -> new Binary(HexFormat.of().parseHex(text));
      case JSON -> new SimpleJsonValue(text);
      case DATE -> LocalDate.parse(text);
      case DATETIME -> Instant.ofEpochMilli(Long.parseLong(text)).atZone(ZoneOffset.UTC);
      case TIMESTAMP -> instant(text);
      case TIMESTAMP_NTZ -> LocalDateTime.ofInstant(instant(text), ZoneOffset.UTC);
      case INTERVAL_DAY_TIME -> {
        BigInteger[] parts = new BigInteger(text).divideAndRemainder(NANOS);
        yield new IntervalDayTime(parts[0].longValueExact(), parts[1].intValueExact());
      }
      case INTERVAL_YEAR_MONTH -> new IntervalYearMonth(Integer.parseInt(text));
      default -> text;
    };
  }

  private static Instant instant(String nanos) {
    return Instant.ofEpochSecond(0, Long.parseLong(nanos));
  }
}
