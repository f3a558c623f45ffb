SELECT c.id, c.profile:address.city::string AS city, f.value:id::number AS device
FROM customers c, LATERAL FLATTEN(input => c.profile:devices) f
WHERE c.country IN ('NL', 'BE', 'DE')
