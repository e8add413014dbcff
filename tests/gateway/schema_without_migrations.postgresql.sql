CREATE TABLE api_keys (
    key_id VARCHAR NOT NULL,
    hash VARCHAR NOT NULL,
    name TEXT NOT NULL,
    username VARCHAR NOT NULL,
    scopes TEXT NOT NULL,
    groups TEXT NOT NULL,
    created FLOAT NOT NULL,
    expires FLOAT NOT NULL,
    last_used FLOAT,
    revoked FLOAT,
    PRIMARY KEY (key_id)
);
CREATE INDEX ix_api_keys_revoked ON api_keys (revoked);
CREATE INDEX ix_api_keys_username ON api_keys (username);
CREATE TABLE clients (
    client_id VARCHAR NOT NULL,
    secret_hash VARCHAR NOT NULL,
    username VARCHAR NOT NULL,
    PRIMARY KEY (client_id)
);
CREATE TABLE client_scopes (
    client_id VARCHAR NOT NULL,
    scope VARCHAR NOT NULL,
    PRIMARY KEY (client_id, scope)
);
CREATE TABLE refresh_tokens (
    token_hash VARCHAR NOT NULL,
    client_id VARCHAR NOT NULL,
    expires FLOAT NOT NULL,
    PRIMARY KEY (token_hash)
);
CREATE TABLE audit (
    number BIGSERIAL NOT NULL,
    at FLOAT NOT NULL,
    request_id VARCHAR NOT NULL,
    username VARCHAR NOT NULL,
    client_id VARCHAR NOT NULL,
    via VARCHAR NOT NULL,
    address VARCHAR NOT NULL,
    action TEXT NOT NULL,
    system VARCHAR NOT NULL,
    target TEXT NOT NULL,
    status INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (number)
);
CREATE INDEX ix_audit_at ON audit (at);
CREATE INDEX ix_audit_username ON audit (username);
CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''audit records are never changed''; END';
CREATE TRIGGER audit_append_only BEFORE UPDATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
CREATE TABLE replicas (
    replica_id VARCHAR NOT NULL,
    beat BIGINT NOT NULL,
    PRIMARY KEY (replica_id)
);
CREATE TABLE submissions (
    system VARCHAR NOT NULL,
    username VARCHAR NOT NULL,
    key VARCHAR NOT NULL,
    fingerprint VARCHAR NOT NULL,
    job_id VARCHAR,
    created FLOAT NOT NULL,
    owner VARCHAR,
    PRIMARY KEY (system, username, key)
);
CREATE INDEX ix_submissions_created ON submissions (created);
CREATE TABLE transfers (
    transfer_id VARCHAR NOT NULL,
    system VARCHAR NOT NULL,
    username VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    reason TEXT NOT NULL,
    path TEXT NOT NULL,
    directory TEXT NOT NULL,
    size BIGINT NOT NULL,
    part_size BIGINT NOT NULL,
    created FLOAT NOT NULL,
    started FLOAT,
    ended FLOAT,
    expires FLOAT NOT NULL,
    owner VARCHAR,
    cancel BOOLEAN,
    PRIMARY KEY (transfer_id)
);
CREATE INDEX ix_transfers_state ON transfers (state);
CREATE INDEX ix_transfers_system ON transfers (system);
CREATE TABLE transfer_parts (
    transfer_id VARCHAR NOT NULL,
    number INTEGER NOT NULL,
    etag VARCHAR NOT NULL,
    PRIMARY KEY (transfer_id, number)
);
CREATE TABLE transfer_objects (
    transfer_id VARCHAR NOT NULL,
    system VARCHAR NOT NULL,
    bucket VARCHAR NOT NULL,
    key TEXT NOT NULL,
    upload_id TEXT NOT NULL,
    PRIMARY KEY (transfer_id)
);
CREATE INDEX ix_transfer_objects_system ON transfer_objects (system);
CREATE TABLE unfinished_uploads (
    digest VARCHAR NOT NULL,
    system VARCHAR NOT NULL,
    username VARCHAR NOT NULL,
    path TEXT NOT NULL,
    upload_id TEXT NOT NULL,
    touched FLOAT NOT NULL,
    PRIMARY KEY (digest)
);
CREATE INDEX ix_unfinished_uploads_touched ON unfinished_uploads (touched);
CREATE INDEX ix_unfinished_uploads_system ON unfinished_uploads (system);
CREATE TABLE secrets (
    name VARCHAR NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (name)
);
