-- The warehouse under attack, as twins: «a|b» is `a` in the one and `b` in the other. Only protected values differ, and
-- only in what their mask hides: a salary stays in its bucket, a birth in its year, a card keeps its last four digits.
CREATE DATABASE IF NOT EXISTS SHOP;
CREATE SCHEMA IF NOT EXISTS SHOP.PUBLIC;
CREATE SCHEMA IF NOT EXISTS SHOP.LAB;
CREATE TABLE SHOP.PUBLIC.CUSTOMERS (
  ID NUMBER(38,0) NOT NULL, EMAIL VARCHAR, SSN VARCHAR, PHONE VARCHAR, CARD VARCHAR, NAME VARCHAR, DOB DATE, COUNTRY VARCHAR,
  BALANCE NUMBER(12,2)
);
INSERT INTO SHOP.PUBLIC.CUSTOMERS VALUES
  (1, '«quvex.zyltha|brovik»@example.com', '«900-41-7301|812-93-4466»', '«+46 70 731 4420|+1 212 946 3358»', '«400071736812|510028294635»7891', '«Quvex Zyltha|Brovik Mandussen»', '1984-«03-17|11-28»', 'SE', 1250.40),
  (2, '«wexnor|ulthar.quist»@example.org', '«900-52-8412|733-04-5577»', '«+44 20 842 5531|+44 20 057 4469»', '«400082847923|510039305746»7892', '«Wexnor Pliskova|Ulthar Quist»', '1990-«11-02|02-14»', 'GB', 87.00),
  (3, '«jorvan.pek|xilmo»@example.net', '«901-63-9523|654-15-6688»', '«+46 70 731 4420|+39 06 168 5570»', '«400093958034|510040416857»7893', '«Jorvan Pekkola|Xilmo Drazen»', '1971-«07-29|01-05»', 'SE', 15320.75),
  (4, '«zanfir|gowrik.ell»@example.com', '«902-74-0634|575-26-7799»', NULL, '«400004069145|510051527968»7894', '«Zanfir Okubo|Gowrik Ellery»', '1995-«01-08|09-30»', 'JP', 640.10),
  (5, '«mizkul|ryptow»@hidden.example', NULL, '«+46 70 964 6653|+46 70 279 6681»', '«400015170256|510062638079»7895', '«Mizkul Adeyemi|Ryptow Farnhill»', '1968-«09-21|04-03»', 'SE', 2210.00),
  (6, '«vilbo@nesk@|qolmzuw»x.example', '«904-85-1745|496-37-8800»', '«+49 30 075 7764|+49 30 380 7792»', '«400026281367|510073749180»7896', NULL, '1988-«05-13|12-24»', 'DE', 0.00);
CREATE TABLE SHOP.PUBLIC.ORDERS (
  ID NUMBER(38,0) NOT NULL, CUSTOMER_ID NUMBER(38,0), AMOUNT NUMBER(12,2), STATUS VARCHAR, CREATED_AT TIMESTAMP_NTZ, NOTE VARCHAR
);
INSERT INTO SHOP.PUBLIC.ORDERS VALUES
  (101, 1, 250.00, 'shipped', '2026-09-01 09:30:00', 'Quvex Zyltha'),
  (102, 1, 75.50, 'cancelled', '2026-09-14 16:05:00', '900-41-7301'),
  (103, 2, 87.00, 'shipped', '2026-09-20 11:12:00', NULL),
  (104, 3, 4999.99, 'open', '2026-10-02 08:00:00', '+46 70 731 4420'),
  (105, 4, 640.10, 'open', '2026-10-11 19:45:00', 'Ulthar Quist');
CREATE TABLE SHOP.PUBLIC.EMPLOYEES (
  ID NUMBER(38,0) NOT NULL, NAME VARCHAR, EMAIL VARCHAR, SALARY NUMBER(38,0), MANAGER_ID NUMBER(38,0), DEPT VARCHAR
);
INSERT INTO SHOP.PUBLIC.EMPLOYEES VALUES
  (1, 'Stella Marsh', '«quvex.zyltha|stalwen»@example.com', «91537|94268», NULL, 'data'),
  (2, 'Ana Pires', '«pirazel|quinzu»@corp.example', «64218|61907», 1, 'sales'),
  (3, 'Bo Karlsen', '«karlbo.x|vexqojn»@corp.example', «68753|60412», 1, 'sales'),
  (4, 'Li Wen', '«liwenzo|obrask»@corp.example', «58846|53391», 2, 'sales');
CREATE TABLE SHOP.PUBLIC.EVENTS (ID NUMBER(38,0) NOT NULL, CUSTOMER_ID NUMBER(38,0), TS TIMESTAMP_NTZ, PAYLOAD VARIANT);
INSERT INTO SHOP.PUBLIC.EVENTS SELECT 1, 1, '2026-09-01 09:30:00', PARSE_JSON('{"action":"«lofgim|entvor»","user":{"email":"«quvex.zyltha|brovik»@example.com","ssn":"«900-41-7301|812-93-4466»"},"items":[«1,2,3|7»]}');
INSERT INTO SHOP.PUBLIC.EVENTS SELECT 2, 2, '2026-09-02 10:30:00', PARSE_JSON('{"action":"«ordzul|jivmukz»","user":{"email":"«wexnor|ulthar.quist»@example.org"«,"xq":"900-52-8412"|»},"items":[]}');
-- Objects as they should be, and what stands where an object should: an array, a text that holds one, nothing.
CREATE TABLE SHOP.PUBLIC.VISITS (ID NUMBER(38,0) NOT NULL, PAYLOAD VARIANT);
INSERT INTO SHOP.PUBLIC.VISITS SELECT 1, PARSE_JSON('{"action":"login","user":{"email":"«quvex.zyltha|brovik»@example.com","ssn":"«900-41-7301|812-93-4466»","lang":"sv"},"notes":["«lofgim|entvor»"]}');
INSERT INTO SHOP.PUBLIC.VISITS SELECT 2, PARSE_JSON('{"action":"order","user":{"email":«73017301|44664466»,"ssn":{"n":"«900-52-8412|733-04-5577»"},"lang":"en"},"items":[1,2]}');
INSERT INTO SHOP.PUBLIC.VISITS SELECT 3, PARSE_JSON('{"action":"leave","user":[{"email":"«jorvan.pek|xilmo»@example.net"}]}');
INSERT INTO SHOP.PUBLIC.VISITS SELECT 4, PARSE_JSON('{"action":"spam","user":"«wexnor|ulthar.quist»@example.org"}');
INSERT INTO SHOP.PUBLIC.VISITS SELECT 5, PARSE_JSON('[{"user":{"email":"«zanfir|gowrik.ell»@example.com"}}]');
INSERT INTO SHOP.PUBLIC.VISITS SELECT 6, PARSE_JSON('"«mizkul|ryptow»@hidden.example"');
INSERT INTO SHOP.PUBLIC.VISITS SELECT 7, PARSE_JSON('{"action":"none","user":{"lang":"de","Email":"known@example.com"}}');
-- Each column wears a mask of one's own: the first letter, tens, the quarter, the hour, nothing.
CREATE TABLE SHOP.PUBLIC.PATIENTS (
  ID NUMBER(38,0) NOT NULL, CODE VARCHAR(20), WEIGHT NUMBER(5,1), ADMITTED DATE, SEEN TIMESTAMP_NTZ, SMOKER BOOLEAN
);
INSERT INTO SHOP.PUBLIC.PATIENTS VALUES
  (1, 'Q«uvarax|ilmoze»', 8«3.5|7.2», '2026-0«1-17|3-28»', '2026-09-01 09:«31:07|58:44»', «TRUE|FALSE»),
  (2, 'W«exnori|ulthar»', 6«1.0|9.9», '2026-0«4-02|6-14»', '2026-09-02 10:«00:00|41:13»', «FALSE|TRUE»),
  (3, 'J«orvanp|xilmod»', 12«4.4|0.1», '2025-1«0-29|2-05»', '2026-09-03 11:«05:10|06:11»', NULL),
  (4, 'Q«zanfir|gowrik»', 8«9.9|0.0», '2026-0«2-08|1-30»', '2026-09-04 12:«15:00|16:30»', «TRUE|FALSE»),
  (5, NULL, NULL, NULL, '2026-09-05 23:«59:59|00:01»', «FALSE|TRUE»);
CREATE VIEW SHOP.PUBLIC.V_PATIENTS AS SELECT ID, CODE AS PATIENT, WEIGHT FROM SHOP.PUBLIC.PATIENTS;
CREATE VIEW SHOP.PUBLIC.V_CUST AS SELECT ID, EMAIL AS CONTACT, SSN AS TAX_ID FROM SHOP.PUBLIC.CUSTOMERS;
CREATE TABLE SHOP.LAB.NOTES (ID NUMBER(38,0), TEXT VARCHAR);
-- Only the rows of EU are for everybody: the others differ in what they hold and in their number.
CREATE TABLE SHOP.LAB.LEDGER (ID NUMBER(38,0), REGION VARCHAR, AMOUNT NUMBER(12,2), MEMO VARCHAR);
INSERT INTO SHOP.LAB.LEDGER VALUES
  (1, 'EU', 10.50, 'first'), (2, 'EU', 20.00, 'second'), (3, 'US', «31.25|9847.75», '«hidfrox|qulvane»'),
  (4, NULL, «0|44», '«wazneb|plorik»'), «(5, 'US', 55, 'zubqatt')|(5, 'US', 66, 'mirvol'), (6, 'ASIA', 77, 'dorphex')»;
CREATE VIEW SHOP.LAB.V_LEDGER AS SELECT ID, REGION AS PLACE, MEMO FROM SHOP.LAB.LEDGER WHERE AMOUNT > 0;
CREATE VIEW SHOP.LAB.V_MEMOS AS SELECT MEMO FROM SHOP.LAB.LEDGER;
CREATE VIEW SHOP.LAB.V_SUMS AS SELECT REGION, COUNT(*) AS N FROM SHOP.LAB.LEDGER GROUP BY REGION;
