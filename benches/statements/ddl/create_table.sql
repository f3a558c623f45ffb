CREATE TABLE IF NOT EXISTS sales.public.invoices (
  id NUMBER NOT NULL, order_id NUMBER, amount NUMBER(12,2), issued_at TIMESTAMP_NTZ, note VARCHAR(200))
