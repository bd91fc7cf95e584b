// The peer: smtp-server from npm. Usage: node smtp_server.js PORT FILE
// Every message it takes becomes a line of FILE: its length, and its content in base64.
"use strict";

const fs = require("fs");
const { SMTPServer } = require("smtp-server");

new SMTPServer({
    name: "server.example",
    authOptional: true,
    disabledCommands: ["AUTH", "STARTTLS"], // as the others, which have no certificate
    disableReverseLookup: true,
    size: 1048576,
    logger: false,
    onData(stream, session, callback) {
        const pieces = [];
        stream.on("data", (piece) => pieces.push(piece));
        stream.on("end", () => {
            if (stream.sizeExceeded) {
                const error = new Error("too large");
                error.responseCode = 552;
                return callback(error);
            }
            const sender = session.envelope.mailFrom.address || "";
            const content = Buffer.concat(pieces).toString("base64");
            fs.appendFileSync(process.argv[3], `${sender} ${content}\n`);
            return callback();
        });
    },
})
    .on("error", () => {})
    .listen(Number(process.argv[2]), "127.0.0.1");
