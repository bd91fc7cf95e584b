// Jakarta Mail (JavaMail, Angus): java -cp … SendMail.java PORT CHUNKSIZE USER PASSWORD CA RCPT…
// The content comes on the standard input; without a CA there is no TLS, without a user no AUTH.
import jakarta.mail.*;
import jakarta.mail.internet.*;
import java.io.*;
import java.nio.file.*;
import java.security.KeyStore;
import java.security.cert.*;
import java.util.*;
import javax.net.ssl.*;

class SendMail {
    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        settings.put("mail.smtp.host", "localhost");
        settings.put("mail.smtp.port", args[0]);
        settings.put("mail.smtp.chunksize", args[1]);
        settings.put("mail.smtp.allow8bitmime", "true");
        settings.put("mail.smtp.localhost", "client.example");
        settings.put("mail.smtp.sendpartial", "true");
        boolean login = !args[2].isEmpty();
        settings.put("mail.smtp.auth", String.valueOf(login));
        if (!args[4].isEmpty()) {
            settings.put("mail.smtp.starttls.required", "true");
            settings.put("mail.smtp.ssl.checkserveridentity", "true");
            settings.put("mail.smtp.ssl.socketFactory", trusting(args[4]));
        }
        Session session = Session.getInstance(settings);
        MimeMessage message = new MimeMessage(session, System.in);
        Address[] recipients = new Address[args.length - 5];
        for (int i = 5; i < args.length; i++) recipients[i - 5] = new InternetAddress(args[i]);
        try (Transport transport = session.getTransport("smtp")) {
            transport.connect(login ? args[2] : null, login ? args[3] : null);
            transport.sendMessage(message, recipients);
        }
    }

    static SSLSocketFactory trusting(String authority) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream file = Files.newInputStream(Path.of(authority))) {
            store.setCertificateEntry(
                "ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust =
            TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context.getSocketFactory();
    }
}
