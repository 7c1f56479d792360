"""Reads the messages in a folder by the schema there, compares them with what they should say, and writes them."""

import json
import pathlib
import struct
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory


def main(folder):
    pool = descriptor_pool.DescriptorPool()
    schema = descriptor_pb2.FileDescriptorSet.FromString((folder / "schema.binpb").read_bytes())
    for file in schema.file:
        pool.Add(file)
    written, differences = [], []
    with open(folder / "messages.jsonl", encoding="utf-8", newline="\n") as messages:
        for line in messages:
            expected = json.loads(line)
            kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(expected["type"]))
            try:
                message = read(kind, bytes.fromhex(expected["bytes"]), expected["value"])
                written.append({"bytes": write(message).hex(), "backwards": backwards(message).hex()})
            except Exception as error:
                differences.append(f"{type(error).__name__}: {error}\n  {line.strip()}")
    if differences:
        sys.exit("\n".join([*differences[:10], f"{len(differences)} messages differ, {len(written)} do not"]))
    (folder / "written.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written), encoding="utf-8")


def read(kind, expected, value):
    """The message of these bytes, which must say this value, and nothing beside it; made of the value where it can."""
    message = kind.FromString(expected)
    found = json_format.MessageToDict(message, preserving_proto_field_name=True)
    same(rounded(kind.DESCRIPTOR, found), rounded(kind.DESCRIPTOR, value), "value")
    # Unknown fields would be written as they were read.
    message.DiscardUnknownFields()
    same(write(message).hex(), expected.hex(), "bytes")
    # There are many NaNs, and JSON has one.
    if '"NaN"' in json.dumps(value):
        return message
    made = json_format.ParseDict(value, kind())
    same(write(made).hex(), expected.hex(), "bytes of what is made of the JSON")
    return made


def write(message):
    return message.SerializeToString(deterministic=True)


def backwards(message):
    """The same message as another writer may have it: the last field first, in every message within, too."""
    fields = []
    for field, value in message.ListFields():
        alone = type(message)()
        if field.message_type is None:
            if field.is_repeated:
                getattr(alone, field.name).extend(value)
            else:
                setattr(alone, field.name, value)
            fields.append([alone.SerializePartialToString()])
        else:
            values = value if field.is_repeated else [value]
            fields.append([delimited(field.number, backwards(inner)) for inner in values])
    return b"".join(part for parts in reversed(fields) for part in parts)


def delimited(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def same(found, expected, what):
    if found != expected:
        raise ValueError(f"the {what} should be {expected}, and is {found}")


def rounded(descriptor, fields):
    """JSON writes a float with as many digits as tell it from others, or with more."""

    def one(field, value):
        if field.message_type:
            return rounded(field.message_type, value)
        if field.type == field.TYPE_FLOAT and not isinstance(value, str):
            return struct.unpack("<f", struct.pack("<f", value))[0]
        return value

    def all(field, value):
        return [one(field, element) for element in value] if isinstance(value, list) else one(field, value)

    return {name: all(descriptor.fields_by_name[name], value) for name, value in fields.items()}


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
