// The peer: smtp-server from npm, accepting and discarding.
// Usage: node smtp_server.js PORT [--tls FILE]
"use strict";

const { readFileSync } = require("fs");
const { SMTPServer } = require("smtp-server");

const [port, , file] = process.argv.slice(2);
const pem = file && readFileSync(file);

new SMTPServer({
    authOptional: true,
    disabledCommands: file ? ["AUTH"] : ["AUTH", "STARTTLS"], // as the others
    ...(file && { cert: pem, key: pem }),
    disableReverseLookup: true,
    logger: false,
    onData(stream, session, callback) {
        stream.on("data", () => {});
        stream.on("end", callback);
    },
}).listen(Number(port), "127.0.0.1");
