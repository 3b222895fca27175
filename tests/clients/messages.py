"""What the clients here and their tests both need to know of messages."""

SERVICE = "openfogstack.tinyfaas.tinyfaas.TinyFaaS"

# Each line says where it is, lest equal pieces hide a wrong order.
PATTERN = b"".join(b"%07d\n" % number for number in range(1 << 19))


def varint(number):
    """Write seven bits a byte, the lowest first.

    >>> varint(300).hex(" ")
    'ac 02'
    """
    if number < 128:
        return bytes([number])
    return bytes([number & 127 | 128]) + varint(number >> 7)


def field(number, value):
    """Write a member of a message that is bytes or a string.

    >>> field(2, b"hi").hex(" ")
    '12 02 68 69'
    """
    return varint(number << 3 | 2) + varint(len(value)) + value


def response_of(message):
    """Read tinyFaaS's Response: its field 1, or nothing.

    >>> response_of(field(1, b"hi")), response_of(b"")
    (b'hi', b'')
    """
    size, shift, at = 0, 0, 1
    while at < len(message):
        size |= (message[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if message[at - 1] < 128:
            break
    if message and (message[0] != 10 or at + size != len(message)):
        raise ValueError(f"no Response: {message[:40]!r}")
    return message[at:]
