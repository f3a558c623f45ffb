{{ config(materialized='incremental') }}
SELECT ID, CAST(NULL AS VARCHAR) AS EMAIL, CAST(NULL AS VARCHAR) AS NATIONAL_ID, 'incremental {{ var("tag") }}' AS SOURCE
FROM SALES.PUBLIC.ORDERS WHERE ID = 101
