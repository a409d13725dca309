"""What is shown of texts that have URLs in them."""

from data_catalog.redaction import shown


def test_users_passwords_and_signatures_are_not_shown():
    assert shown("a s3://me:pass@word@bucket/x?sig=abc b") == "a s3://***@bucket/x?*** b"
    assert shown("['http://key@host:1/a?b', 'c@d?e']") == "['http://***@host:1/a?***', 'c@d?e']"


def test_passwords_of_connection_strings_are_not_shown():
    assert shown("'ducklake:postgres:dbname=lake password=abc host=x'") == (
        "'ducklake:postgres:dbname=lake password=*** host=x'"
    )


def test_addresses_without_secrets_stay_as_they_are():
    assert shown("see https://host/a/b@2 and me@example.org?") == "see https://host/a/b@2 and me@example.org?"
