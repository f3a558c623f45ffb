-- People who are nobody. Every private value has "kanarie" or the digits 4111 in it.
CREATE DATABASE IF NOT EXISTS SALES;
CREATE SCHEMA IF NOT EXISTS SALES.PUBLIC;
CREATE TABLE SALES.PUBLIC.people (id NUMBER(38,0), name VARCHAR(100), card VARCHAR(30), account NUMBER(18,0), note VARCHAR(500), profile VARIANT);
INSERT INTO SALES.PUBLIC.people SELECT 1, 'Ada Kanarie', '4111-1111-1111-1111', 411111111111, 'write to ada.kanarie@example.com', PARSE_JSON('{"mail":"ada.kanarie@example.com","n":1}');
INSERT INTO SALES.PUBLIC.people SELECT 2, 'Bo Kanarie', '4111-1111-1111-1129', 411111111129, 'nothing to find', PARSE_JSON('{"n":2}');
INSERT INTO SALES.PUBLIC.people SELECT 3, NULL, NULL, NULL, NULL, NULL;
CREATE TABLE SALES.PUBLIC.visits (person VARCHAR(100), place VARCHAR(100));
INSERT INTO SALES.PUBLIC.visits VALUES ('Ada Kanarie', 'Paris'), ('Bo Kanarie', 'Rome');
