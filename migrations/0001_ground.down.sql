-- The role stays: it belongs to the server, and another database may use it.
DROP FUNCTION paytrust.refuse();
DROP FUNCTION paytrust.is_system();
DROP FUNCTION paytrust.tenant();
REVOKE USAGE ON SCHEMA paytrust FROM paytrust_app;
