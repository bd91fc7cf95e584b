// The peer: smtp-server from npm, accepting and discarding. Usage: node smtp_server.js PORT
"use strict";

const { SMTPServer } = require("smtp-server");

new SMTPServer({
    authOptional: true,
    disabledCommands: ["AUTH", "STARTTLS"], // as the others, which have no certificate
    disableReverseLookup: true,
    logger: false,
    onData(stream, session, callback) {
        stream.on("data", () => {});
        stream.on("end", callback);
    },
}).listen(Number(process.argv[2]), "127.0.0.1");
